"""Compute the small bars that show differences with their intervals beside the numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.results.tables import Difference, Table

LENGTH = 100.0
"""The width of a bar; places on a bar go from 0 to this width."""

Ends = tuple[float, float]
"""The differences at the two ends of all bars of a table; zero is between them."""


@dataclass(frozen=True)
class Bar:
    """Places on a bar.

    Attributes:
        zero: the place of a zero difference.
        low: the lower end of the interval.
        high: the upper end of the interval.
        value: the place of the difference; None: beyond the ends of the bar.
        side: ``above`` or ``below`` if the interval excludes zero, else ``both``.
        cut: the ends, ``low`` or ``high``, where the interval goes on beyond the bar.
    """

    zero: float
    low: float
    high: float
    value: float | None
    side: str
    cut: tuple[str, ...]


def ends(table: Table, apart: Collection[str] = ()) -> Ends:
    """Return the ends that all bars of a table share, so that the bars are comparable.

    Args:
        table: the rows.
        apart: models whose bars may be cut, such as the teacher. A teacher is so far above the
            students that the bars of the students would shrink to dots.
    """
    rows = [row for row in table if row["model"] not in apart] or table
    cells = [cell for row in rows for cell in row.values() if isinstance(cell, Difference)]
    low = min((cell.low for cell in cells), default=0.0)
    high = max((cell.high for cell in cells), default=0.0)
    first, last = min(low, 0.0), max(high, 0.0)
    return (first, last) if first < last else (-1.0, 1.0)


def bar(difference: Difference, between: Ends) -> Bar:
    """Return the bar of a difference, with these ends."""
    first, last = between

    def place(number: float) -> float:
        return LENGTH * ((min(max(number, first), last) - first) / (last - first))

    side = "above" if difference.low > 0 else "below" if difference.high < 0 else "both"
    beyond = {"low": difference.low < first, "high": difference.high > last}
    return Bar(
        place(0.0),
        place(difference.low),
        place(difference.high),
        place(difference.value) if first <= difference.value <= last else None,
        side,
        tuple(end for end, cut in beyond.items() if cut),
    )
