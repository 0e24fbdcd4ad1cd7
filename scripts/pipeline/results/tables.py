"""The tables of a report as text, column by column: for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.results.gap_recovered import MIN_GAP
from pipeline.results.significance import CONFIDENCE, RESAMPLES, TRIALS

NONE = "–"
# What differences are taken to unless others are named, as the heads of columns call it.
BASELINES = {"control": "control", "kd": "KD"}
_MEANINGS = {"control": ", what the teacher adds"}

MINUTES = (
    "Train minutes: time in training steps, without validation and start; in brackets: of a model "
    "that was trained before this run."
)
GAP = (
    f"Gap recovered: (method − learner) ÷ (teacher − learner); {NONE} where the teacher is "
    f"less than {MIN_GAP:g} BLEU above the learner."
)

Table = list[dict[str, str]]


class Words(str):
    """A text of several words, which a table may break at any space."""


class Difference(str):
    """A difference with its interval as text; it keeps the numbers, as the page draws them too."""

    value: float
    low: float
    high: float

    def __new__(cls, value: float, low: float, high: float) -> Difference:
        """Write them with one digit after the point."""
        shown, low_shown, high_shown = (_zero(number, 1) for number in (value, low, high))
        text = super().__new__(cls, f"{shown:+.1f} [{low_shown:.1f}, {high_shown:.1f}]")
        text.value, text.low, text.high = value, low, high
        return text


def versus(baseline: str, names: Mapping[str, str]) -> str:
    """Return what the head of a column calls the difference to a model."""
    return f"vs {BASELINES.get(baseline, names[baseline])}"


def meaning(baseline: str, names: Mapping[str, str]) -> str:
    """Say what such a column has."""
    what = f"{names[baseline]}{_MEANINGS.get(baseline, '')}"
    return f"{versus(baseline, names)}: difference in BLEU to {what}"


def markdown(rows: Table) -> str:
    """Return a table as Markdown."""
    table = pd.DataFrame(rows)
    alignment = ("left", *["right"] * (table.shape[1] - 1))
    return table.to_markdown(index=False, disable_numparse=True, colalign=alignment)


def scores(content: Mapping[str, Any], names: Mapping[str, str], *, chrf_gap: bool) -> Table:
    """Return the rows of the table of scores and size: one text for each column's head.

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
        if any(other["export"] for other in content["models"]):
            found["MB"] = number((row["export"] or {}).get("megabytes"))
        return found

    return [cells(row) for row in content["models"]]


def differences(content: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Return the rows of the table of differences; none where there is nothing to compare with."""

    def cells(row: Mapping[str, Any]) -> dict[str, str]:
        found = {"model": names[row["model"]]}
        for baseline in content["baselines"]:
            head, other = versus(baseline, names), row["differences"].get(baseline)
            found[head] = difference(other)
            found[f"p {head}"] = p_value(other["p_value"]) if other else NONE
        return found

    return [cells(row) for row in content["models"] if content["baselines"]]


def sizes(content: Mapping[str, Any], names: Mapping[str, str]) -> Table:
    """Return the rows of the table of lengths, sizes and times."""
    return [
        {
            "model": names[row["model"]],
            "BP": f"{row['brevity_penalty']:.3f}",
            "length": f"{row['length_ratio']:.3f}",
            "length penalty": NONE if row.get("lenpen") is None else f"{row['lenpen']:.3g}",
            "parameters": NONE if row["parameters"] is None else f"{row['parameters'] / 1e6:.2f} M",
            "train minutes": _minutes(row),
        }
        for row in content["models"]
    ]


def notes(content: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    """Say what the columns of `scores` mean, and whether a method is the best."""
    found = [leader(content["leader"], names, seeds=1)] if content["leader"] else []
    found += [f"{meaning(baseline, names)}." for baseline in content["baselines"]]
    if content["baselines"]:
        found.append(
            f"In brackets: {100 * CONFIDENCE:.0f} % interval of the difference by paired "
            f"bootstrap over the test sentences ({RESAMPLES} resamples); p: sacrebleu's paired "
            f"approximate randomization, two-sided ({TRIALS} trials). Each model is one training: "
            "what another seed would change is in neither."
        )
    if _has_gaps(content):
        found.append(GAP)
    return [*found, *_export_notes(content, names)]


def _export_notes(content: Mapping[str, Any], names: Mapping[str, str]) -> list[str]:
    refused = {
        names[row["model"]]: row["export"]["refused"]
        for row in content["models"]
        if "refused" in (row["export"] or {})
    }
    found = [f"Not exported: {model}: {reason}" for model, reason in refused.items()]
    if not (measured := content["measured"]):
        return found
    losses = _losses(content)
    low, high = (_zero(loss, 1) for loss in (min(losses, default=0), max(losses, default=0)))
    return [
        f"MB (10⁶ bytes): of a model's folder in export/, by CTranslate2, "
        f"{measured['quantization']}.",
        f"Times: medians of {measured['repeats']} repeats over {measured['sentences']} test "
        "sentences a thread, points in turns, nothing beside; words are those of the translations; "
        "p50 and p95: of single sentences.",
        f"As exported the models have {low:+.1f} to {high:+.1f} BLEU against those that fairseq "
        "translates with.",
        *found,
    ]


def _losses(content: Mapping[str, Any]) -> list[float]:
    """What each model loses in BLEU as exported, with the beam that fairseq translates with."""
    bleu = {row["model"]: row["bleu"] for row in content["models"]}
    beam = content["decoding"]["beam"]
    return [
        row["bleu"] - bleu[row["model"]]
        for row in content["operating_points"]
        if row["beam"] == beam and row["model"] in bleu
    ]


def _has_gaps(content: Mapping[str, Any]) -> bool:
    """Whether there are a teacher, a learner and a method."""
    return any(row["gap_recovered"] is not None for row in content["models"])


def leader(found: Mapping[str, Any], names: Mapping[str, str], *, seeds: int) -> str:
    """Say which method is the first, and whether it is the best; see `limits.leader`.

    Args:
        found: what that returned.
        names: what the models are called.
        seeds: how many trainings each score is of.
    """
    first, second = names[found["model"]], names[found["second"]]
    margin = f"{difference(found)} BLEU"
    if found["best"] and seeds == 1:
        return (
            f"Best with this seed: {first}, {margin} against the second, {second}. Other seeds may "
            "have another order: scripts/compare.sh."
        )
    if found["best"]:
        return f"Best method: {first}, {margin} against the second, {second}."
    return (
        f"No method is marked as the best: the first, {first}, has {margin} against the "
        f"second, {second}, and that interval holds zero."
    )


def difference(found: Mapping[str, float] | None, key: str = "bleu") -> str:
    """Return a difference, which stands under `key`, with its interval, as text."""
    return NONE if found is None else Difference(found[key], found["low"], found["high"])


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


def number(value: float | None) -> str:
    """Write a positive number with two digits or more, as many as stand before the point."""
    if value is None:
        return NONE
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _zero(value: float, digits: int) -> float:
    """Round, without a minus before zero."""
    return round(value, digits) + 0.0
