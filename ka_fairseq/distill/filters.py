"""Filters for translations that are not fit for training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_RUN = 4  # subwords


@dataclass(frozen=True)
class Filters:
    """The filters, which leave out translations. None or False switches a filter off.

    Attributes:
        max_ratio: leave out a pair if one side has more than this many times the subwords of the
            other side. The end of the sentence counts as a subword.
        max_repeats: leave out a translation if its most frequent run of four subwords occurs at
            least this many more times than the source's most frequent run (Raunak et al. 2021:
            hallucinations that oscillate).
        drop_copies: leave out a translation that is equal to its source.
        drop_duplicates: leave out a pair that occurred before.
    """

    max_ratio: float | None = 3.0
    max_repeats: int | None = 2
    drop_copies: bool = True
    drop_duplicates: bool = True


def fault(source: Sequence[str], target: Sequence[str], filters: Filters) -> str | None:
    """Return why a pair is not fit for training, or None.

    Args:
        source: subwords of the source.
        target: subwords of the translation.
        filters: the filters to apply. `drop_duplicates` is ignored: it needs more than one pair.
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
    """Return how often the most frequent run of four subwords occurs; 1 for shorter sentences."""
    runs = zip(*(subwords[start:] for start in range(_RUN)), strict=False)
    return max(Counter(runs).values(), default=1)
