"""Compute the gap between teacher and student, and the share that a method recovers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MIN_GAP = 1.0  # points of BLEU or chrF; shares of a smaller gap would be mostly noise
BASES = ("teacher", "learner")
METRICS = ("bleu", "chrf")


def teacher_gap(rows: Sequence[Mapping[str, Any]], metric: str = "bleu") -> float | None:
    """Return how far the teacher is above the student, or None if one of them is missing."""
    scores = {row["model"]: row[metric] for row in rows}
    if not scores.keys() >= set(BASES):
        return None
    return scores["teacher"] - scores["learner"]


def recovered(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return (method - student) / (teacher - student) for each method, by metric.

    Args:
        rows: the name and the scores `METRICS` of each model.

    Returns:
        The share for each method and metric. None if the teacher's gap is below `MIN_GAP` in BLEU
        or in the metric itself. An empty dictionary if teacher or student is missing.
    """
    scores = {row["model"]: row for row in rows}
    gaps = {metric: teacher_gap(rows, metric) for metric in METRICS}

    def share(model: str, metric: str) -> float | None:
        if min(gaps["bleu"], gaps[metric]) < MIN_GAP:
            return None
        return (scores[model][metric] - scores["learner"][metric]) / gaps[metric]

    if gaps["bleu"] is None:
        return {}
    return {
        model: {metric: share(model, metric) for metric in METRICS}
        for model in scores
        if model not in BASES
    }
