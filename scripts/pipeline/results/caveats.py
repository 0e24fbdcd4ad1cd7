"""Warn about what a table of scores cannot show, and find out whether a method is the best."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.results.gap_recovered import BASES, MIN_GAP, teacher_gap
from pipeline.results.significance import Interval
from pipeline.results.trend import still_rises

Rows = Sequence[Mapping[str, Any]]
Curves = Mapping[str, Mapping[int, float]]
Intervals = Mapping[tuple[str, str], Interval]
Names = Mapping[str, str]

SETTINGS = {"rate": "learning rate", "weight": "λ", "size": "k"}
"""The tuned settings, with their names in tables."""


@dataclass(frozen=True)
class Limit:
    """A warning about something that the table cannot show, or shows wrongly.

    Attributes:
        kind: the name for programs.
        text: the sentence for readers, in one line.
        values: the numbers behind the sentence.
    """

    kind: str
    text: str
    values: Mapping[str, Any] = field(default_factory=dict)


def warnings(
    rows: Rows, curves: Curves, intervals: Intervals, sentences: int, names: Names
) -> list[Limit]:
    """Return all warnings that apply to a table.

    Args:
        rows: the scored models, with `model` and `bleu`.
        curves: BLEU on validation by epoch, for each trained model.
        intervals: as `significance.intervals` returns them.
        sentences: the number of test sentences.
        names: the models' names in tables.
    """
    found = (
        still_rising(curves, names),
        validated_once(curves, names),
        nothing_to_recover(rows),
        small_test_set(rows, intervals, sentences),
    )
    return [warning for warning in found if warning is not None]


def still_rising(curves: Curves, names: Names) -> Limit | None:
    """Warn of models whose validation score still rises; see `trend.still_rises` for the rule."""
    found = {model: rise for model, curve in curves.items() if (rise := still_rises(curve))}
    if not found:
        return None
    listed = ", ".join(
        f"{names[model]} (+{rise.per_epoch:.2f} an epoch over its last {rise.epochs})"
        for model, rise in found.items()
    )
    text = (
        f"Not trained to the end: BLEU on validation still rises for {listed}. Longer training "
        "alone would change these rows, so differences to them are not due to the method alone."
    )
    values = {
        model: {"per_epoch": rise.per_epoch, "epochs": rise.epochs} for model, rise in found.items()
    }
    return Limit("still rising", text, values)


def validated_once(curves: Curves, names: Names) -> Limit | None:
    """Warn of models with a single validation score, which shows no trend."""
    found = [model for model, curve in curves.items() if len(curve) == 1]
    if not found:
        return None
    text = (
        "Validated only once, so nothing shows whether the training was long enough: "
        f"{', '.join(names[model] for model in found)}."
    )
    return Limit("validated once", text, {"models": found})


def nothing_to_recover(rows: Rows) -> Limit | None:
    """Warn of a teacher that is less than `MIN_GAP` BLEU above its student on the test set."""
    gap = teacher_gap(rows)
    if gap is None or gap >= MIN_GAP:
        return None
    where = f"only {gap:.1f} BLEU above" if gap >= 0 else f"{-gap:.1f} BLEU below"
    text = (
        f"Nothing to recover: on the test set the teacher is {where} the learner. A gap below "
        f"{MIN_GAP:g} BLEU is too small for a comparison. The gains and losses of fine-tunings "
        "here do not show what a teacher adds."
    )
    return Limit("nothing to recover", text, {"gap": gap})


def small_test_set(rows: Rows, intervals: Intervals, sentences: int) -> Limit | None:
    """Warn if the fine-tunings differ by less than the width of a difference's interval.

    The function takes the median width of the intervals of differences between fine-tunings. It
    compares this width with the largest difference between two fine-tunings. The teacher and the
    student before fine-tuning are left out, because they are expected to differ.
    """
    scores = {row["model"]: row["bleu"] for row in rows if row["model"] not in BASES}
    widths = [found.width for pair, found in intervals.items() if scores.keys() >= set(pair)]
    if not widths:
        return None
    width = statistics.median(widths)
    largest = max(scores.values()) - min(scores.values())
    if width <= largest:
        return None
    text = (
        f"Small test set ({sentences} sentences): the 95 % interval of a difference between two "
        f"fine-tunings is {width:.2f} BLEU wide. The largest difference between two of them is "
        f"{largest:.2f}. Differences of less than half that width show no order."
    )
    values = {"sentences": sentences, "interval_width": width, "largest_difference": largest}
    return Limit("small test set", text, values)


def leader(rows: Rows, intervals: Intervals) -> dict[str, Any] | None:
    """Return the fine-tuning with the highest BLEU, and whether the table shows it as the best.

    Returns:
        The `model`, the `second`, and the difference `bleu` between both with its interval
        (`low`, `high`). `best` is true if that interval excludes zero. None for fewer than two
        fine-tunings.
    """
    tuned = [row for row in rows if row["model"] not in BASES]
    if len(tuned) < 2:
        return None
    first, second = sorted(tuned, key=lambda row: row["bleu"], reverse=True)[:2]
    interval = intervals[first["model"], second["model"]]
    return {
        "model": first["model"],
        "second": second["model"],
        "bleu": first["bleu"] - second["bleu"],
        "low": interval.low,
        "high": interval.high,
        "best": round(interval.low, 1) > 0,  # rounded as in the table
    }


def one_seed(seeds: int) -> Limit | None:
    """Warn that intervals from one seed do not cover the chance in a training."""
    if seeds > 1:
        return None
    text = (
        "One seed: the intervals cover test sentences only. The results of other seeds are not "
        "known; three or more seeds show them."
    )
    return Limit("one seed", text, {"seeds": seeds})


def edge_of_grid(models: Rows, names: Names) -> Limit | None:
    """Warn of settings that were best at an end of the grid: a wider grid may find better ones.

    Args:
        models: the `tried` and `chosen` settings of each model.
        names: the models' names in tables.
    """
    found = {}
    for row in models:
        for setting in SETTINGS:
            values = sorted({tried[setting] for tried in row["tried"]} - {None})
            if len(values) > 1 and row["chosen"][setting] in (values[0], values[-1]):
                found.setdefault(row["model"], []).append(setting)
    if not found:
        return None
    listed = "; ".join(
        f"{names[model]}: {', '.join(SETTINGS[setting] for setting in settings)}"
        for model, settings in found.items()
    )
    text = (
        f"Not tuned to the end: the best setting was at an end of the grid for {listed}. A wider "
        "grid may find better settings, so these rows may not show the methods at their best."
    )
    return Limit("edge of the grid", text, found)
