"""Rate operating points: quality and speed of each exported model with each beam.

A row is a model (of a size) with a beam: `model`, `size`, `beam`, `lenpen`, `bleu`, `chrf`,
`length_ratio`, and the rates with the names of `tidy`. Speed is `tidy.SPEED`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.results import frontier
from pipeline.results.caveats import Limit
from pipeline.results.gap_recovered import BASES
from pipeline.results.tables import number
from pipeline.results.tidy import SPEED

Row = Mapping[str, Any]
Names = Mapping[str, str]
TEACHER = BASES[0]
WITHIN = (1.0, 2.0)
"""How far a cheaper point may be below the teacher's best point, in BLEU."""


def rows(points: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of one test set, with their places on the frontier.

    Args:
        points: the table of `tidy.over_seeds`, for one test set.

    Returns:
        Each row with `dominated_by` and `times_teacher`. `dominated_by` is the index of the row
        that `frontier.dominator` finds, or None. `times_teacher` is the row's speed divided by the
        speed of the teacher's best point, or None.
    """
    if points.empty or SPEED not in points:
        return []
    points = points[points[SPEED].notna()]
    quality, speed = points.bleu.to_numpy(), points[SPEED].to_numpy()
    found = points.astype(object).where(points.notna(), None).to_dict("records")
    best = teachers_best(found)
    for place, row in enumerate(found):
        row["dominated_by"] = frontier.dominator(quality, speed, place)
        row["times_teacher"] = row[SPEED] / best[SPEED] if best else None
    return found


def teachers_best(found: Sequence[Row]) -> Row | None:
    """Return the teacher's row with the highest BLEU; None if the teacher was not measured."""
    return _best([row for row in found if row["model"] == TEACHER])


def best_student(found: Sequence[Row], teachers: Collection[str]) -> Row | None:
    """Return the student's row with the highest BLEU; None without a student."""
    return _best([row for row in found if row["model"] not in (TEACHER, *teachers)])


def recommended(found: Sequence[Row], teachers: Collection[str]) -> Row | None:
    """Return the best student's row that no row dominates; if all are dominated, the best row."""
    free = [row for row in found if row["dominated_by"] is None]
    return best_student(free, teachers) or best_student(found, teachers)


def label(row: Row, names: Names) -> str:
    """Return a row's name for sentences."""
    size = f", {row['size']}," if row["size"] else ""
    return f"{names[row['model']]}{size} at beam {row['beam']}"


def warning(found: Sequence[Row], teachers: Collection[str], names: Names) -> Limit | None:
    """Warn if the best student is dominated by its teacher with another beam."""
    student = best_student(found, teachers)
    if student is None:
        return None
    instead = _teachers_better(found, student)
    if instead is None:
        return None
    model = [row for row in found if _same_model(row, student)]
    free = [row for row in model if _teachers_better(found, row) is None]
    text = (
        f"Do not use the best student with this beam: {label(student, names)} has "
        f"{_numbers(student)}, and {label(instead, names)} has {_numbers(instead)}: at least as "
        "good and at least as fast. "
    )
    if free:
        other = _best(free)
        text += f"Decode the student with beam {other['beam']}: {_numbers(other)}."
    else:
        text += "Take the teacher with that beam, or train a larger student, or train longer."
    values = {"student": _place(student), "teacher": _place(instead), "bleu": student["bleu"]}
    return Limit("student dominated", text, values)


def cheapest(found: Sequence[Row], names: Names) -> str | None:
    """Return a sentence with the cheapest points within `WITHIN` BLEU of the teacher's best point.

    None if the teacher was not measured.
    """
    best = teachers_best(found)
    if best is None:
        return None
    parts: dict[str, list[str]] = {}
    for limit in WITHIN:
        row = _fastest(found, best["bleu"] - limit)
        parts.setdefault(_worth(row, best, found, names), []).append(f"{limit:g}")
    said = "; ".join(
        f"within {' and '.join(limits)} BLEU: {text}" for text, limits in parts.items()
    )
    return f"Cheapest points (teacher's best: {label(best, names)}, {_numbers(best)}): {said}."


def _worth(row: Row, best: Row, found: Sequence[Row], names: Names) -> str:
    text = f"{label(row, names)} ({_numbers(row)})"
    if row is best:
        return f"only {text} itself"
    text += f", {row[SPEED] / best[SPEED]:.1f} times as fast as the teacher's best point"
    if row["model"] == TEACHER:
        return f"{text}; no student is faster at that quality"
    own = _fastest([other for other in found if other["model"] == TEACHER], row["bleu"])
    if own is None:
        return f"{text}; no point of the teacher is as good"
    if own is best:
        return f"{text}; this is also the teacher's fastest point of at least that quality"
    return (
        f"{text}, {row[SPEED] / own[SPEED]:.1f} times as fast as the teacher's own fastest point "
        f"of at least that quality (beam {own['beam']})"
    )


def _best(found: Sequence[Row]) -> Row | None:
    return max(found, key=lambda row: (row["bleu"], row[SPEED]), default=None)


def _fastest(found: Sequence[Row], least: float) -> Row | None:
    quality, speed = (np.array([row[key] for row in found]) for key in ("bleu", SPEED))
    place = frontier.fastest(quality, speed, least)
    return None if place is None else found[place]


def _teachers_better(found: Sequence[Row], row: Row) -> Row | None:
    """Return the teacher's best row that dominates this row."""
    return _best([r for r in found if r["model"] == TEACHER and _dominates(r, row)])


def _dominates(one: Row, other: Row) -> bool:
    quality, speed = ([row[key] for row in (one, other)] for key in ("bleu", SPEED))
    return bool(frontier.dominates(quality, speed)[0, 1])


def _same_model(one: Row, other: Row) -> bool:
    return (one["model"], one["size"]) == (other["model"], other["size"])


def _numbers(row: Row) -> str:
    return f"{row['bleu']:.1f} BLEU, {number(row[SPEED])} sentences/s"


def _place(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in ("model", "size", "beam")}
