"""The operating points of a comparison: all methods, sizes and seeds, on each test set."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from pipeline.comparison import POINTS, Comparison
from pipeline.engine import files
from pipeline.results import evaluate, operating_points, speed, tidy, worth
from pipeline.results.evaluation_sets import EvaluationSet
from pipeline.results.hierarchical import Differences
from pipeline.results.tidy import SPEED
from pipeline.results.worth import Scores


def table(comparison: Comparison) -> pd.DataFrame:
    """Return the tidy table of all measured exported models of a comparison."""
    points = speed.facts(comparison.pair, POINTS).get("points", [])
    rows: list[dict[str, Any]] = []
    for keys, training in trainings(comparison):
        of_training = (point for point in points if point["model"] == training)
        rows += [row for point in of_training for row in tidy.of_point(point, **keys)]
    return tidy.table(rows)


def trainings(comparison: Comparison) -> list[tuple[dict[str, Any], str]]:
    """Return `model`, `size`, `seed` and the name of each training; each training once."""
    found: dict[str, dict[str, Any]] = {}
    for one in comparison.sizes:
        for model in one.shown:
            made = one.trainings(model)
            size = one.size_of(model)
            for index, training in enumerate(made):
                seed = one.seeds[index] if len(made) == len(one.seeds) else None
                found.setdefault(training.name, {"model": model, "size": size, "seed": seed})
    return [(keys, name) for name, keys in found.items()]


def collect(comparison: Comparison, points: pd.DataFrame, baseline: str | None) -> dict[str, Any]:
    """Return the operating points for ``compare.json``.

    Args:
        comparison: the comparison, after all measurements.
        points: the table that `table` returns.
        baseline: the method that the other methods' worth is measured against, or None.

    Returns:
        For each test set the `rows` of `operating_points.rows`, the line `cheapest`, and the
        sentences `worth`.
    """
    pair, found = comparison.pair, {}
    for which in comparison.tests:
        rows = operating_points.rows(tidy.over_seeds(points[points.test == which.title(pair)]))
        found[which.title(pair)] = {
            "rows": rows,
            "cheapest": operating_points.cheapest(rows, pair.titles),
            "worth": _worths(comparison, rows, which, baseline) if baseline and rows else [],
        }
    return found


def _worths(
    comparison: Comparison, rows: list[dict[str, Any]], which: EvaluationSet, baseline: str
) -> list[str]:
    titles = comparison.pair.titles
    of_methods = [row for row in rows if row["model"] in comparison.methods]
    scores = _scores(comparison, which, of_methods)

    def points(method: str) -> list[tuple[str, float]]:
        return [(_key(row), row[SPEED]) for row in of_methods if row["model"] == method]

    found = []
    for method in comparison.methods:
        if method == baseline or not points(method) or not points(baseline):
            continue
        both = points(method), points(baseline), scores
        at_speed, at_quality = worth.at_equal_speed(*both), worth.at_equal_quality(*both)
        found.append(worth.sentence(titles[method], titles[baseline], at_speed, at_quality))
    return found


def _scores(comparison: Comparison, which: EvaluationSet, rows: list[dict[str, Any]]) -> Scores:
    """Return BLEU of each point on the resampled test sets, from the exported models' text."""
    pair = comparison.pair
    made = {(one.size, m): one.trainings(m) for one in comparison.sizes for m in one.methods}
    texts: Mapping[str, list[list[str]]] = {
        _key(row): [
            files.read_lines(speed.hypotheses(pair, training.name, row["beam"], which))
            for training in made[row["size"], row["model"]]
        ]
        for row in rows
    }
    found = Differences.of_texts("bleu", texts, evaluate.references(pair, which))
    return Scores(found.scores, found.drawn)


def _key(row: Mapping[str, Any]) -> str:
    return f"{row['model']} {row['size']} {row['beam']}"
