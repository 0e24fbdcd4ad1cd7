"""Differences with their intervals as small bars: where to draw what beside the numbers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from pipeline.results.tables import Difference, Table

LENGTH = 100.0
"""Of a bar; its places are from 0 to this."""

Ends = tuple[float, float]
"""The differences at which all bars of a table begin and end; zero is between them."""


@dataclass(frozen=True)
class Bar:
    """Places on a bar.

    Attributes:
        zero: where no difference is.
        low: where the interval begins.
        high: where it ends.
        value: where the difference itself is; None: beyond the bar's ends.
        side: ``above`` or ``below`` zero for certain, or ``both``.
        cut: the ends, ``low`` or ``high``, beyond which the interval goes on.
    """

    zero: float
    low: float
    high: float
    value: float | None
    side: str
    cut: tuple[str, ...]


def ends(table: Table, apart: Collection[str] = ()) -> Ends:
    """Return where the bars of a table begin and end, so that they can be compared.

    Args:
        table: its rows.
        apart: models whose bars may be cut, as a teacher's, who is so far above that the bars of
            its learners would all be dots.
    """
    rows = [row for row in table if row["model"] not in apart] or table
    cells = [cell for row in rows for cell in row.values() if isinstance(cell, Difference)]
    low = min((cell.low for cell in cells), default=0.0)
    high = max((cell.high for cell in cells), default=0.0)
    first, last = min(low, 0.0), max(high, 0.0)
    return (first, last) if first < last else (-1.0, 1.0)


def bar(difference: Difference, between: Ends) -> Bar:
    """Return how to draw a difference on a bar with these ends."""
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
