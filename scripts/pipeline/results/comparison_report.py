"""Report a comparison: numbers, statistics and warnings, as JSON, CSV, Markdown and a plot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import pandas as pd

from pipeline.comparison import FILE, NAME, Comparison
from pipeline.engine import files, state
from pipeline.engine.progress import say
from pipeline.results import (
    caveats,
    collected,
    compared,
    comparison_plot,
    operating_points,
    quality_over_speed,
    score_tables,
    tables,
)


def build(comparison: Comparison) -> dict[str, Any]:
    """Write all files of a comparison with scored models, and print its tables."""
    pair = comparison.pair
    folder = pair.files.run_dir / NAME
    points = compared.table(comparison)
    content = {**collect(comparison), **_further(comparison, points)}
    content["warnings"] = _all_warnings(comparison, content)
    main = content["operating_points"][comparison.tests[0].title(pair)]
    figures = {
        "differences with their intervals": "differences.png" if content["baselines"] else None,
        "BLEU over speed": "quality_over_speed.png" if main["rows"] else None,
    }
    text = score_tables.markdown(content, pair.titles, ", methods compared", figures)
    files.write_json(folder / FILE, content)
    comparison_plot.differences(content, pair.models, folder / "differences")
    quality_over_speed.draw(main["rows"], pair.models, folder / "quality_over_speed")
    files.write_text(folder / "points.csv", points.to_csv(index=False))
    for name, frame in (
        (NAME, _differences_frame),
        ("scores", _scores_frame),
        ("tuning", _tuning_frame),
    ):
        frames = [_with_size(frame(one), one) for one in score_tables.sizes(content)]
        files.write_text(folder / f"{name}.csv", pd.concat(frames).to_csv(index=False))
    files.write_text(folder / f"{NAME}.md", text)
    say(f"\n{text}")
    say(f"{NAME}: {folder / f'{NAME}.md'} (and {FILE}, {NAME}.csv, scores.csv, tuning.csv)")
    return {}


def _with_size(frame: pd.DataFrame, content: Mapping[str, Any]) -> pd.DataFrame:
    if content["size"]:
        frame.insert(0, "student", content["size"])  # in the tuning file `size` is k
    return frame


def _further(comparison: Comparison, points: pd.DataFrame) -> dict[str, Any]:
    """Return the other sizes, and the operating points over all sizes."""
    pair, names = comparison.pair, [name for _, name in compared.trainings(comparison)]
    baseline = next(iter(_baselines(comparison)), None)
    return {
        "other_sizes": [collect(size) for size in comparison.sizes[1:]],
        "operating_points": compared.collect(comparison, points, baseline),
        "made": {name: state.fingerprint(pair.files.run_dir, name) for name in names},
    }


def _all_warnings(comparison: Comparison, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the warnings of all sizes, each once; first the warning of a dominated student."""
    rows = content["operating_points"][comparison.tests[0].title(comparison.pair)]["rows"]
    names = comparison.pair.titles
    first = operating_points.warning(rows, comparison.teachers, names)
    found = {} if first is None else {first.text: asdict(first)}
    several = score_tables.sizes(content)
    for one in several:
        for warning in one["warnings"]:
            everywhere = all(warning in other["warnings"] for other in several)
            text = warning["text"] if everywhere else f"{one['size'] or 'own'}: {warning['text']}"
            found.setdefault(text, {**warning, "text": text})
    return list(found.values())


def collect(comparison: Comparison) -> dict[str, Any]:
    """Return the content of ``compare.json`` for one size."""
    names = {m: [t.name for t in comparison.trainings(m)] for m in comparison.shown}
    shown = collected.Shown(
        comparison.pair,
        names,
        methods=comparison.methods,
        baselines=_baselines(comparison),
        seeds=comparison.seeds,
        tests=comparison.tests,
        comet=comparison.comet,
    )
    found = collected.collect(shown)
    models = [{**model, **_tuning(comparison, model["model"])} for model in found["models"]]
    design = (
        caveats.one_seed(comparison.count),
        caveats.edge_of_grid(models, comparison.pair.titles),
    )
    return {
        **found,
        "size": comparison.size,
        "seeds_from": comparison.seeds_from,
        "grid": asdict(comparison.grid),
        "models": models,
        "warnings": [*found["warnings"], *(asdict(w) for w in design if w is not None)],
    }


def _baselines(comparison: Comparison) -> tuple[str, ...]:
    usual = tuple(name for name in tables.BASELINES if name in comparison.methods)
    return comparison.against or usual


def _tuning(comparison: Comparison, name: str) -> dict[str, Any]:
    """Return the settings that were `tried` for a method, and the `chosen` setting."""
    if name not in comparison.methods:
        return {"tried": [], "chosen": None}
    points = comparison.points[name]
    tried = [
        {
            "rate": point.rate,
            "weight": point.weight,
            "size": point.size,
            "title": point.title,
            "valid_bleu": comparison.valid_bleu(point),
        }
        for point in points
    ]
    return {"tried": tried, "chosen": tried[points.index(comparison.choose(name))]}


def _differences_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each test set and model."""
    rows = []
    for test in content["tests"]:
        for row in test["rows"]:
            cells = {"test": test["name"], "model": row["model"], "sentences": test["sentences"]}
            for metric in filter(row.get, collected.SCORES):
                cells |= {metric: row[metric]["mean"], f"{metric}_sd": row[metric]["sd"]}
            for baseline, difference in row["differences"].items():
                for metric in filter(difference.get, collected.SCORES):
                    ends = {key: difference[metric][key] for key in ("mean", "low", "high")}
                    cells |= {f"{metric}_vs_{baseline}_{k}": value for k, value in ends.items()}
            cells["gap_recovered"] = (row["gap_recovered"] or {}).get("bleu")
            rows.append(cells)
    return pd.DataFrame(rows)


def _scores_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each test set, model and seed."""
    rows = []
    models = {model["model"]: model for model in content["models"]}
    for test in content["tests"]:
        for row in test["rows"]:
            seeded = len(row["bleu"]["by_seed"]) == len(content["seeds"])
            for index in range(len(row["bleu"]["by_seed"])):
                p_values = {
                    f"p_vs_{baseline}": difference["p_values"][index]
                    for baseline, difference in row["differences"].items()
                }
                rows.append(
                    {
                        "test": test["name"],
                        "model": row["model"],
                        "seed": content["seeds"][index] if seeded else None,
                        **{m: row[m]["by_seed"][index] for m in filter(row.get, collected.SCORES)},
                        "train_minutes": models[row["model"]]["train_minutes"][index],
                        **p_values,
                    }
                )
    return pd.DataFrame(rows)


def _tuning_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """Return a row for each method, point of its grid, and seed."""
    return pd.DataFrame(
        [
            {
                "model": model["model"],
                **{key: tried[key] for key in ("rate", "weight", "size")},
                "seed": seed,
                "valid_bleu": bleu,
                "chosen": tried == model["chosen"],
            }
            for model in content["models"]
            for tried in model["tried"]
            for seed, bleu in zip(content["seeds"], tried["valid_bleu"], strict=True)
        ]
    )
