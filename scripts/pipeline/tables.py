"""The tables of a report as text, column by column: for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.gap import MIN_GAP
from pipeline.significance import CONFIDENCE, RESAMPLES, TRIALS

NONE = "–"
# What the differences of a row are taken to, as the heads of columns call it.
BASELINES = {"control": "control", "kd": "KD"}
MEANINGS = {"control": ", what the teacher adds", "kd": ""}

MINUTES = (
    "Train minutes: time in training steps, without validation and start; in brackets: of a model "
    "that was trained before this run."
)
GAP = (
    f"Gap recovered: (fine-tuning − learner) ÷ (teacher − learner); {NONE} where the teacher is "
    f"less than {MIN_GAP:g} BLEU above the learner."
)

Table = list[dict[str, str]]


def markdown(rows: Table) -> str:
    """Return a table as Markdown."""
    table = pd.DataFrame(rows)
    alignment = ("left", *["right"] * (table.shape[1] - 1))
    return table.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def scores(content: Mapping[str, Any], names: Mapping[str, str], *, chrf_gap: bool) -> Table:
    """Return the rows of the table of scores: one text for each column's head.

    Args:
        content: what ``report.json`` holds.
        names: what the models are called.
        chrf_gap: whether the gap recovered stands there in chrF too, in brackets.
    """
    gap_metrics = ("bleu", "chrf") if chrf_gap else ("bleu",)
    gap_head = "gap recovered (in chrF)" if chrf_gap else "gap recovered"

    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        found = {
            "model": names[row["model"]],
            "BLEU": f"{row['bleu']:.1f}",
            "chrF": f"{row['chrf']:.1f}",
        }
        if _has_gaps(content):
            found[gap_head] = shares(row["gap_recovered"], gap_metrics)
        for baseline in content["baselines"]:
            versus = row["differences"].get(baseline)
            found[f"vs {BASELINES[baseline]}"] = difference(versus)
            found[f"p vs {BASELINES[baseline]}"] = p_value(versus["p_value"]) if versus else NONE
        return found

    return [cells(row) for row in content["models"]]


def sizes(content: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Return the rows of the table of lengths, sizes and times."""
    return [
        {
            "model": names[row["model"]],
            "BP": f"{row['brevity_penalty']:.3f}",
            "length": f"{row['length_ratio']:.3f}",
            "parameters": NONE if row["parameters"] is None else f"{row['parameters'] / 1e6:.2f} M",
            "train minutes": _minutes(row),
        }
        for row in content["models"]
    ]


def notes(content: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Say what the columns of `scores` mean, and whether a fine-tuning is the best."""
    found = [leader(content["leader"], names)] if content["leader"] else []
    for baseline in content["baselines"]:
        head = f"vs {BASELINES[baseline]}"
        found.append(f"{head}: difference in BLEU to {names[baseline]}{MEANINGS[baseline]}.")
    if content["baselines"]:
        found.append(
            f"In brackets: {100 * CONFIDENCE:.0f} % interval of the difference by paired "
            f"bootstrap over the test sentences ({RESAMPLES} resamples); p: sacrebleu's paired "
            f"approximate randomization, two-sided ({TRIALS} trials)."
        )
    if _has_gaps(content):
        found.append(GAP)
    return found


def _has_gaps(content: Mapping[str, Any]) -> bool:
    """Whether there are a teacher, a learner and a fine-tuning."""
    return any(row["gap_recovered"] is not None for row in content["models"])


def leader(found: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """Say which fine-tuning is the first, and whether it is the best; see `limits.leader`."""
    first, second = names[found["model"]], names[found["second"]]
    margin = f"{difference(found)} BLEU"
    if found["best"]:
        return f"Best fine-tuning: {first}, {margin} against the second, {second}."
    return (
        f"No fine-tuning is marked as the best: the first, {first}, has {margin} against the "
        f"second, {second}, and that interval holds zero."
    )


def difference(found: Mapping[str, float] | None, key: str = "bleu") -> str:
    """Return a difference, which stands under `key`, with its interval, as text."""
    if found is None:
        return NONE
    value, low, high = (_zero(found[end], 1) for end in (key, "low", "high"))
    return f"{value:+.1f} [{low:.1f}, {high:.1f}]"


def p_value(value: float) -> str:
    """Return a p-value as text."""
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _minutes(row: Mapping[str, Any]) -> str:
    if row["train_minutes"] is None:
        return NONE
    minutes = f"{row['train_minutes']:.1f}"
    return f"({minutes})" if row.get("trained_before") else minutes


def shares(found: Mapping[str, float | None] | None, metrics: Sequence[str]) -> str:
    """Return the shares of the gap that are recovered, by metric, as text."""
    if found is None or found[metrics[0]] is None:
        return NONE
    first, *others = (
        NONE if found[metric] is None else f"{_zero(100 * found[metric], 0):.0f} %"
        for metric in metrics
    )
    return " ".join([first, *(f"({other})" for other in others)])


def _zero(value: float, digits: int) -> float:
    """Round, without a minus before zero."""
    return round(value, digits) + 0.0
