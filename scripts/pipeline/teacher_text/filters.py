"""Translations that are not fit to train on."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from pipeline import parallel
from pipeline.clean import SeenHashes
from pipeline.teacher_text.recipe import Filters

Pair = tuple[str, str]

_CHUNK = 2000
_HASH_BYTES = 8
_RUN = 4  # subwords


def kept(pairs: Iterable[Pair], filters: Filters, dropped: Counter[str]) -> Iterator[Pair]:
    """Yield the pairs that are fit to train on.

    Args:
        pairs: source and translation, in subwords with spaces between them.
        filters: what to leave out.
        dropped: gets how many were left out, by reason.
    """
    seen = SeenHashes()
    for chunk in parallel.chunks(pairs, _CHUNK):
        found = []
        for pair in chunk:
            reason = fault(pair, filters)
            if reason is None:
                found.append(pair)
            else:
                dropped[reason] += 1
        if filters.drop_duplicates:
            new = seen.first_time(_hashes(found))
            dropped["duplicates"] += len(found) - int(new.sum())
            found = [pair for pair, first in zip(found, new, strict=True) if first]
        yield from found


def fault(pair: Pair, filters: Filters) -> str | None:
    """Return why a pair is not fit to train on, or None; see `Filters`."""
    source, target = (side.split() for side in pair)
    if not target:
        return "empty translations"
    if filters.drop_copies and source == target:
        return "copies of the source"
    lengths = len(source) + 1, len(target) + 1
    if filters.max_ratio is not None and max(lengths) > filters.max_ratio * min(lengths):
        return "lengths too different"
    if (most := filters.max_repeats) is not None and repeats(target) - repeats(source) >= most:
        return "repeated n-grams"
    return None


def repeats(subwords: Sequence[str]) -> int:
    """Return how often the most frequent run of four subwords comes; 1 where there is none."""
    runs = zip(*(subwords[start:] for start in range(_RUN)), strict=False)
    return max(Counter(runs).values(), default=1)


def _hashes(pairs: Sequence[Pair]) -> np.ndarray:
    digests = (
        hashlib.blake2b("\n".join(pair).encode(), digest_size=_HASH_BYTES).digest()
        for pair in pairs
    )
    return np.frombuffer(b"".join(digests), np.uint64)
