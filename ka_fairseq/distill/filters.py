"""Translations that are not fit to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_RUN = 4  # subwords


@dataclass(frozen=True)
class Filters:
    """Which translations are left out; None or False switches a filter off.

    Attributes:
        max_ratio: one side has more than this times the other's subwords, the end of the sentence
            counted in.
        max_repeats: the most frequent run of four subwords comes at least this many times more
            often than the source's does (Raunak et al. 2021: hallucinations that oscillate).
        drop_copies: the translation is the source.
        drop_duplicates: the same pair came before.
    """

    max_ratio: float | None = 3.0
    max_repeats: int | None = 2
    drop_copies: bool = True
    drop_duplicates: bool = True


def fault(source: Sequence[str], target: Sequence[str], filters: Filters) -> str | None:
    """Return why a pair of one sentence is not fit to train on, or None.

    Args:
        source: subwords.
        target: likewise, of the translation.
        filters: what is left out; `drop_duplicates` is not looked at, as one pair has none.
    """
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
