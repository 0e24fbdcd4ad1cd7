"""Write cells and rows of tables as text, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.results.gap_recovered import MIN_GAP

NONE = "–"
# The default baselines of differences, as column heads name them.
BASELINES = {"control": "control", "kd": "KD"}
_MEANINGS = {"control": ", what the teacher adds"}

MINUTES = (
    "Train minutes: time in training steps, without validation and start. Brackets: the model "
    "was trained before this run."
)
GAP = (
    f"Gap recovered: (method − learner) ÷ (teacher − learner); {NONE}: the teacher is less than "
    f"{MIN_GAP:g} BLEU above the learner."
)

Table = list[dict[str, str]]


class Words(str):
    """A text of several words, which a table may break at any space."""


class Difference(str):
    """A difference with its interval as text; it keeps the numbers for the page's bars."""

    value: float
    low: float
    high: float

    def __new__(cls, value: float, low: float, high: float) -> Difference:
        """Write the numbers with one digit after the point."""
        shown, low_shown, high_shown = (_zero(number, 1) for number in (value, low, high))
        text = super().__new__(cls, f"{shown:+.1f} [{low_shown:.1f}, {high_shown:.1f}]")
        text.value, text.low, text.high = value, low, high
        return text


def versus(baseline: str, names: Mapping[str, str]) -> str:
    """Return the column head of the difference to a model."""
    return f"vs {BASELINES.get(baseline, names[baseline])}"


def meaning(baseline: str, names: Mapping[str, str]) -> str:
    """Return the meaning of such a column."""
    what = f"{names[baseline]}{_MEANINGS.get(baseline, '')}"
    return f"{versus(baseline, names)}: difference in BLEU to {what}"


def markdown(rows: Table) -> str:
    """Return a table as Markdown."""
    table = pd.DataFrame(rows)
    alignment = ("left", *["right"] * (table.shape[1] - 1))
    return table.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def leader(found: Mapping[str, Any], names: Mapping[str, str], *, seeds: int) -> str:
    """Say which method is the first, and whether it is the best; see `caveats.leader`.

    Args:
        found: the result of `caveats.leader`.
        names: the models' names in tables.
        seeds: the number of trainings of each score.
    """
    first, second = names[found["model"]], names[found["second"]]
    margin = f"{Difference(found['bleu'], found['low'], found['high'])} BLEU"
    if found["best"] and seeds == 1:
        return (
            f"Best with this seed: {first}, {margin} against the second, {second}. Other seeds may "
            "give another order: scripts/compare.sh."
        )
    if found["best"]:
        return f"Best method: {first}, {margin} against the second, {second}."
    return (
        f"No method is marked as the best: the first, {first}, has {margin} against the second, "
        f"{second}. The interval holds zero."
    )


def difference(found: Mapping[str, float] | None) -> str:
    """Return the mean of a difference with its interval, as text."""
    return NONE if found is None else Difference(found["mean"], found["low"], found["high"])


def p_value(value: float) -> str:
    """Return a p-value as text."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def share(found: Mapping[str, float | None] | None) -> str:
    """Return the share of the gap in BLEU that is recovered, as text."""
    if found is None or found["bleu"] is None:
        return NONE
    return f"{_zero(100 * found['bleu'], 0):.0f} %"


def number(value: float | None) -> str:
    """Write a positive number: with one digit after the point below 100, with none above."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _zero(value: float, digits: int) -> float:
    """Return the rounded number; negative zero becomes zero."""
    return round(value, digits) + 0.0
