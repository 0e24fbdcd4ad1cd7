"""Split a list of sentence pairs into train, valid and test."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

Pair = tuple[str, str]

_BUCKETS = 1000


def clean(pairs: Iterable[Pair], min_words: int, max_words: int) -> list[Pair]:
    """Return each pair once, if both sides have a length in bounds and differ."""
    kept = {}
    for source, target in pairs:
        lengths = (len(source.split()), len(target.split()))
        if source != target and min_words <= min(lengths) and max(lengths) <= max_words:
            kept[source, target] = None
    return list(kept)


def split(
    pairs: Iterable[Pair], held_out_per_mille: Mapping[str, int], held_out_min_words: int
) -> dict[str, list[Pair]]:
    """Split by a hash of the target sentence, so train has no target of valid or test.

    The hash depends only on the letters of the words. So sentences that differ only in digits, case
    or punctuation are in the same split. The split does not depend on the order or the number of
    sentences. A sentence that is held out of one version of the text is held out of every version.
    So a model that was trained on one version may be tested on another version.

    Args:
        pairs: the pairs to split.
        held_out_per_mille: shares of the target sentences that go to "valid" and to "test".
        held_out_min_words: shorter sentences are always in train. Titles of one or two words say
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
