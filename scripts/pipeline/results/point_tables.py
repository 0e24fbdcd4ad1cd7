"""Return the tables of operating points as text, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.results.operating_points import Row, label
from pipeline.results.tables import NONE, Table, Words, number
from pipeline.results.tidy import SPEED

Names = Mapping[str, str]

NOTE = (
    "An operating point is an exported model with a beam. sentences/s: on one thread, from raw "
    "text to raw text. ÷ teacher: the speed divided by the speed of the teacher's best point. "
    "dominated by: a point that is at least as good and at least as fast."
)
_UNITS = {
    "words/s": "words_per_second",
    "p50, ms": "p50_ms",
    "p95, ms": "p95_ms",
}


def points(rows: Sequence[Row], names: Names) -> Table:
    """Return the first table: quality, speed, and the dominating point of each point."""
    return [
        {
            **_point(rows, row, names),
            "BLEU": f"{row['bleu']:.1f}",
            "chrF": f"{row['chrf']:.1f}",
            "sentences/s": number(row[SPEED]),
            "÷ teacher": number(row["times_teacher"]),
            "dominated by": _dominator(rows, row, names),
        }
        for row in rows
    ]


def rates(rows: Sequence[Row], names: Names, measured: Mapping[str, Any]) -> Table:
    """Return the table of further rates on CPUs, lengths and length penalties.

    Args:
        rows: the rows of `operating_points.rows`.
        names: the models' names in tables.
        measured: the facts of `speed.facts`, with their `settings`.
    """
    columns = {unit: f"one_thread.{key}" for unit, key in _UNITS.items()}
    if (everything := measured["settings"].get("all_threads")) is not None:
        for unit, key in {"sentences/s": "sentences_per_second", **_UNITS}.items():
            if unit.endswith("/s"):
                columns[f"{unit} on {everything['threads']} threads"] = f"all_threads.{key}"
    return [
        {
            **_point(rows, row, names),
            **{head: number(row.get(column)) for head, column in columns.items()},
            "length": NONE if row.get("length_ratio") is None else f"{row['length_ratio']:.3f}",
            "length penalty": NONE if row["lenpen"] is None else f"{row['lenpen']:.3g}",
        }
        for row in rows
    ]


def rates_on_gpu(rows: Sequence[Row], names: Names, measured: Mapping[str, Any]) -> Table:
    """Return the table of rates on a GPU; empty without a GPU. For the arguments see `rates`."""
    if "gpu" not in measured["settings"]:
        return []
    units = {"sentences/s": "sentences_per_second", **_UNITS}
    return [
        {
            **_point(rows, row, names),
            **{f"{unit} on GPU": number(row.get(f"gpu.{key}")) for unit, key in units.items()},
        }
        for row in rows
    ]


def _point(rows: Sequence[Row], row: Row, names: Names) -> dict[str, str]:
    """Return the cells that name a point; the size only if there are several sizes."""
    sizes = {other["size"] for other in rows} - {""}
    size = {"size": row["size"] or NONE} if sizes else {}
    return {"model": names[row["model"]], **size, "beam": str(row["beam"])}


def _dominator(rows: Sequence[Row], row: Row, names: Names) -> str:
    place = row["dominated_by"]
    return NONE if place is None else Words(label(rows[place], names))
