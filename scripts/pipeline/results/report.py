"""Stage `report`: write tables, plots and a page about all trained and evaluated models."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.engine import files, state
from pipeline.models.settings import Pair
from pipeline.results import (
    collected,
    evaluate,
    gap_recovered,
    operating_points,
    page,
    plots,
    quality_over_speed,
    score_tables,
    speed,
    tables,
    tidy,
)
from pipeline.results.evaluation_sets import MAIN


def build(pair: Pair) -> str:
    """Write ``report.md``, ``report.json``, the plots and ``report.html``.

    Returns:
        The text of ``report.md``.
    """
    points = tidy.of_points(speed.facts(pair).get("points", []))
    content = collect(pair, points)
    rows = content["operating_points"][MAIN.title(pair)]["rows"]
    figures = {
        "BLEU on validation by epoch": "validation_bleu.png",
        "BLEU over speed": "quality_over_speed.png" if rows else None,
    }
    text = score_tables.markdown(content, pair.titles, "", figures)
    bleu, transfer = (_curves(pair, key) for key in ("valid_bleu", "valid_transfer_loss"))
    plots.plot_validation_bleu(bleu, pair.models, pair.files.run_dir / "validation_bleu")
    plots.plot_transfer_loss(transfer, pair.models, pair.files.run_dir / "transfer_loss")
    files.write_json(pair.files.run_dir / "report.json", content)
    files.write_text(pair.files.run_dir / "report.md", text)
    quality_over_speed.draw(rows, pair.models, pair.files.run_dir / "quality_over_speed")
    files.write_text(pair.files.run_dir / "points.csv", points.to_csv(index=False))
    page.write(pair, content)
    return text


def collect(pair: Pair, points: pd.DataFrame) -> dict[str, Any]:
    """Return the content of ``report.json``: the evaluated models, teacher first.

    Args:
        pair: the pair of the runs.
        points: the table of `tidy.of_points`.
    """
    trained = {name: [name] for name in pair.titles if evaluate.scores(pair, name) is not None}
    methods = [name for name in trained if name not in gap_recovered.BASES]
    baselines = [name for name in tables.BASELINES if name in trained]
    content = collected.collect(collected.Shown(pair, trained, methods, baselines))
    rows = operating_points.rows(tidy.over_seeds(points))
    teachers = {teacher for model in pair.models for teacher in model.teachers}
    first = operating_points.warning(rows, teachers, pair.titles)
    how = {key: value for key, value in speed.facts(pair).items() if key != "points"}
    return {
        **content,
        "text": state.facts(pair.files.run_dir, "prepare"),
        "warnings": [*([asdict(first)] if first else []), *content["warnings"]],
        "operating_points": {
            MAIN.title(pair): {
                "rows": rows,
                "cheapest": operating_points.cheapest(rows, pair.titles),
                "worth": [],
            }
        },
        "measured": {**how, "quantization": pair.quantization} if rows else None,
    }


def _curves(pair: Pair, key: str) -> dict[str, dict[int, float]]:
    return {name: collected.curve(pair, name, key) for name in pair.titles}
