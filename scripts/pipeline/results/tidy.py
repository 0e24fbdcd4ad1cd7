"""Make the tidy table of all measurements of exported models, with one observation per row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

KEYS = ["model", "size", "seed", "test", "beam"]
COLUMNS = [*KEYS, "lenpen", "metric", "value"]
"""`size` is the student's preset, empty for the pair's own; beam and lenpen are the point's."""

SPEED = "one_thread.sentences_per_second"
"""The metric that stands for speed: sentences a second on one thread."""


def of_point(
    point: Mapping[str, Any], *, model: str, size: str = "", seed: int | None = None
) -> list[dict[str, Any]]:
    """Return the rows of an operating point.

    Args:
        point: as `speed.facts` returns it; the times are repeated for each test set.
        model: the model.
        size: the student's preset.
        seed: the seed of the training; None: the training has no seed.
    """
    rates = {
        f"{setting}.{unit}": value
        for setting, found in point.items()
        if isinstance(found, Mapping) and setting != "scores"
        for unit, value in found.items()
        if unit != "error"
    }
    keys = {"model": model, "size": size, "seed": seed, "beam": point["beam"]}
    keys["lenpen"] = point.get("lenpen")
    return [
        {**keys, "test": test, "metric": metric, "value": value}
        for test, scores in point["scores"].items()
        for metric, value in {**scores, **rates}.items()
    ]


def of_points(points: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table for one training of each model, from the points of `speed.facts`."""
    return table(row for point in points for row in of_point(point, model=point["model"]))


def table(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the table of these rows."""
    return pd.DataFrame(list(rows), columns=COLUMNS)


def wide(found: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each combination of `KEYS`, in their order, and a column for each metric."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in found.to_dict("records"):
        keys = {key: row[key] for key in (*KEYS, "lenpen")}
        rows.setdefault(tuple(map(str, keys.values())), keys)[row["metric"]] = row["value"]
    return pd.DataFrame(list(rows.values()), columns=None if rows else [*KEYS, "lenpen"])


def over_seeds(found: pd.DataFrame) -> pd.DataFrame:
    """Return `wide` averaged over seeds: a row for each model, size, test set and beam."""
    keys = [key for key in KEYS if key != "seed"]
    rows = wide(found).drop(columns="seed")
    return rows.groupby(keys, sort=False, as_index=False).mean()
