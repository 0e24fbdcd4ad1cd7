"""From a list of sentence pairs to train, valid and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

Pair = tuple[str, str]

_BUCKETS = 1000


def clean(pairs: Iterable[Pair], min_words: int, max_words: int) -> list[Pair]:
    """Keep each pair once, of a length in bounds on both sides, and really translated."""
    kept = {}
    for source, target in pairs:
        lengths = (len(source.split()), len(target.split()))
        if source != target and min_words <= min(lengths) and max(lengths) <= max_words:
            kept[source, target] = None
    return list(kept)


def split(
    pairs: Iterable[Pair], held_out_per_mille: Mapping[str, int], held_out_min_words: int
) -> dict[str, list[Pair]]:
    """Split by a hash of the target sentence, so that no target of valid or test is trained on.

    Only the words' letters count: sentences that differ in digits, case or punctuation stay
    together. Nothing else counts, no order and no number of sentences: what was held out of one
    version of the text is held out of any other, so that a model trained on the one may be tested
    on the other.

    Args:
        pairs: what to split.
        held_out_per_mille: shares of the target sentences that go to "valid" and to "test".
        held_out_min_words: shorter ones are always trained on: titles of one or two words say
            little about a translation model.

    Returns:
        The pairs of "train", "valid" and "test", in the given order.
    """
    valid = held_out_per_mille["valid"]
    splits: dict[str, list[Pair]] = {"train": [], "valid": [], "test": []}
    for source, target in pairs:
        words = _letters(target)
        bucket = _bucket(words)
        if len(words) < held_out_min_words or bucket >= valid + held_out_per_mille["test"]:
            splits["train"].append((source, target))
        else:
            splits["valid" if bucket < valid else "test"].append((source, target))
    return splits


def _letters(sentence: str) -> list[str]:
    words = ("".join(filter(str.isalpha, word)) for word in sentence.casefold().split())
    return [word for word in words if word]


def _bucket(words: list[str]) -> int:
    digest = hashlib.sha256(" ".join(words).encode()).digest()
    return int.from_bytes(digest[:8], "big") % _BUCKETS
