"""What a comparison found: numbers, statistics and warnings; JSON, CSV, Markdown and a plot."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison import FILE, NAME, Comparison
from pipeline.engine import files, state
from pipeline.engine.progress import bar, say
from pipeline.models.settings import Pair
from pipeline.results import (
    caveats,
    comet,
    compared,
    comparison_plot,
    comparison_tables,
    evaluate,
    gap_recovered,
    operating_points,
    quality_over_speed,
    report,
    significance,
    sufficient_statistics,
    tables,
)
from pipeline.results.caveats import Limit
from pipeline.results.evaluation_sets import EvaluationSet
from pipeline.results.hierarchical import Differences

# What a row may have, in the order of the files' columns.
_SCORES = (*sufficient_statistics.METRICS, comet.METRIC, "length_ratio")


def build(comparison: Comparison) -> dict[str, Any]:
    """Write all files of a comparison whose models are scored, and print its tables."""
    pair = comparison.pair
    folder = pair.run_dir / NAME
    points = compared.table(comparison)
    content = {**collect(comparison), **_further(comparison, points)}
    content["warnings"] = _all_warnings(comparison, content)
    text = comparison_tables.markdown(content, pair.titles)
    files.write_json(folder / FILE, content)
    comparison_plot.differences(content, pair.models, folder / "differences")
    main = content["operating_points"][comparison.tests[0].title(pair)]
    quality_over_speed.draw(main["rows"], pair.models, folder / "quality_over_speed")
    files.write_text(folder / "points.csv", points.to_csv(index=False))
    for name, frame in (
        (NAME, _differences_frame),
        ("scores", _scores_frame),
        ("tuning", _tuning_frame),
    ):
        frames = [_with_size(frame(one), one) for one in comparison_tables.sizes(content)]
        files.write_text(folder / f"{name}.csv", pd.concat(frames).to_csv(index=False))
    files.write_text(folder / f"{NAME}.md", text)
    say(f"\n{text}")
    say(f"{NAME}: {folder / f'{NAME}.md'} (and {FILE}, {NAME}.csv, scores.csv, tuning.csv)")
    return {}


def _with_size(frame: pd.DataFrame, content: Mapping[str, Any]) -> pd.DataFrame:
    if content["size"]:
        frame.insert(0, "student", content["size"])  # `size` is k in the file of what was tuned
    return frame


def _further(comparison: Comparison, points: pd.DataFrame) -> dict[str, Any]:
    """What there is beside the first size: the others, and what compares them all."""
    pair, names = comparison.pair, [name for _, name in compared.trainings(comparison)]
    baseline = next(iter(_baselines(comparison)), None)
    return {
        "other_sizes": [collect(size) for size in comparison.sizes[1:]],
        "operating_points": compared.collect(comparison, points, baseline),
        "made": {name: state.fingerprint(pair.run_dir, name) for name in names},
    }


def _all_warnings(comparison: Comparison, content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Those of all sizes, each once; first of all, that a student is not worth having."""
    rows = content["operating_points"][comparison.tests[0].title(comparison.pair)]["rows"]
    names = comparison.pair.titles
    first = operating_points.warning(rows, comparison.teachers, names)
    found = {} if first is None else {first.text: asdict(first)}
    several = comparison_tables.sizes(content)
    for one in several:
        for warning in one["warnings"]:
            everywhere = all(warning in other["warnings"] for other in several)
            text = warning["text"] if everywhere else f"{one['size'] or 'own'}: {warning['text']}"
            found.setdefault(text, {**warning, "text": text})
    return list(found.values())


def collect(comparison: Comparison) -> dict[str, Any]:
    """Return what ``compare.json`` holds of one size."""
    pair = comparison.pair
    models = [_model(comparison, name) for name in comparison.shown]
    curves = {name: _mean_curve(comparison, name) for name in comparison.shown}
    found = [_test_set(comparison, which, curves) for which in comparison.tests]
    tests = [test for test, _ in found]
    warnings = _merged([warnings for _, warnings in found], [test["name"] for test in tests])
    warnings += _of_the_design(comparison, models)
    names = [training.name for name in comparison.shown for training in comparison.trainings(name)]
    return {
        "pair": pair.name,
        "size": comparison.size,
        "languages": list(pair.languages),
        "seeds": comparison.seeds,
        "seeds_from": comparison.seeds_from,
        "methods": list(comparison.methods),
        "baselines": list(_baselines(comparison)),
        "grid": asdict(comparison.grid),
        "comet": comparison.comet,
        "models": models,
        "tests": tests,
        "warnings": [asdict(warning) for warning in warnings],
        "decoding": report.decoding(pair),
        "system": report.system(report.threads(pair, names)),
    }


def _baselines(comparison: Comparison) -> tuple[str, ...]:
    usual = tuple(name for name in tables.BASELINES if name in comparison.methods)
    return comparison.against or usual


def _model(comparison: Comparison, name: str) -> dict[str, Any]:
    """What does not depend on the test set: how it was tuned and trained."""
    pair, trainings = comparison.pair, comparison.trainings(name)
    facts = [_facts(pair, training.name) for training in trainings]
    seconds = [fact.get("train_seconds") for fact in facts]
    found = {
        "model": name,
        "trainings": [training.name for training in trainings],
        "parameters": facts[0].get("parameters"),
        "train_minutes": [None if s is None else s / 60 for s in seconds],
        "trained_before": "given" in facts[0],
        "tried": [],
        "chosen": None,
    }
    if name not in comparison.methods:
        return found
    tried = [
        {**_settings(point), "title": point.title, "valid_bleu": comparison.valid_bleu(point)}
        for point in comparison.points[name]
    ]
    chosen = comparison.points[name].index(comparison.choose(name))
    return {**found, "tried": tried, "chosen": tried[chosen]}


def _settings(point: Any) -> dict[str, float | None]:
    return {"rate": point.rate, "weight": point.weight, "size": point.size}


def _test_set(
    comparison: Comparison, which: EvaluationSet, curves: caveats.Curves
) -> tuple[dict[str, Any], list[Limit]]:
    """The scores of all models on one test set, and what they cannot show."""
    pair, names = comparison.pair, comparison.shown
    references = evaluate.references(pair, which)
    trained = {name: [t.name for t in comparison.trainings(name)] for name in names}
    texts = {m: [evaluate.hypotheses(pair, t, which) for t in ts] for m, ts in trained.items()}
    scored = {m: [_scores(comparison, t, which) for t in ts] for m, ts in trained.items()}
    found = {m: Differences.of_texts(m, texts, references) for m in sufficient_statistics.METRICS}
    signatures = dict(scored[names[0]][0]["signatures"])
    if comparison.comet is not None:
        counts = {m: [comet.counts(pair, t, which) for t in ts] for m, ts in trained.items()}
        found[comet.METRIC] = Differences(counts, comet.of_sums)
        signatures["COMET"] = comet.signature(comparison.comet)
    baselines = _baselines(comparison)
    p_values = _p_values(comparison, texts, references, baselines, which)

    rows: list[dict[str, Any]] = []
    for name in names:
        row: dict[str, Any] = {"model": name}
        for metric in _SCORES:
            if metric in scored[name][0]:
                row[metric] = _over_seeds([scores[metric] for scores in scored[name]])
        row["differences"] = {
            baseline: {
                **{metric: _difference(found[metric], name, baseline) for metric in found},
                "p_values": p_values[baseline][name],
            }
            for baseline in baselines
            if baseline != name
        }
        rows.append(row)
    rated = (*gap_recovered.BASES, *comparison.methods)  # not another teacher, if there is one
    means = [
        {"model": row["model"], **{metric: row[metric]["mean"] for metric in gap_recovered.METRICS}}
        for row in rows
        if row["model"] in rated
    ]
    shares = gap_recovered.recovered(means)
    for row in rows:
        row["gap_recovered"] = shares.get(row["model"])
    pairs = [(a, b) for a in names for b in names if a != b]
    both = {(a, b): found["bleu"].interval(a, b) for a, b in pairs}
    sentences = {(a, b): found["bleu"].interval(a, b, seeds=False) for a, b in pairs}
    test = {
        "name": which.title(pair),
        "sentences": len(references),
        "signatures": signatures,
        "rows": rows,
        "leader": caveats.leader(means, both),
    }
    return test, caveats.warnings(means, curves, sentences, len(references), pair.titles)


def _scores(comparison: Comparison, training: str, which: EvaluationSet) -> dict[str, Any]:
    pair, found = comparison.pair, {}
    for stage in comparison.scores_of(training, which):
        found |= _facts(pair, stage.name)
    return found


def _over_seeds(values: list[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": deviation, "by_seed": values}


def _difference(found: Differences, model: str, baseline: str) -> dict[str, Any]:
    by_seed = found.by_seed(model, baseline)
    interval = asdict(found.interval(model, baseline))
    return {"mean": float(np.mean(by_seed)), **interval, "by_seed": by_seed.tolist()}


def _p_values(
    comparison: Comparison,
    texts: Mapping[str, list[list[str]]],
    references: list[str],
    baselines: Sequence[str],
    which: EvaluationSet,
) -> dict[str, dict[str, list[float]]]:
    """sacrebleu's p-value in each seed, by baseline and model."""
    found = {baseline: {name: [] for name in comparison.shown} for baseline in baselines}
    turns = [(index, baseline) for index in range(comparison.count) for baseline in baselines]
    for index, baseline in bar(turns, f"testing on {which.title(comparison.pair)}"):
        of_seed = {name: text[min(index, len(text) - 1)] for name, text in texts.items()}
        for name, p_value in significance.p_values(of_seed, baseline, references).items():
            found[baseline][name].append(p_value)
    return found


def _mean_curve(comparison: Comparison, name: str) -> dict[int, float]:
    """BLEU on validation by epoch, as mean over the seeds; of the epochs that all of them have."""
    trainings = comparison.trainings(name)
    curves = [report.curve(comparison.pair, t.name, "valid_bleu") for t in trainings]
    epochs = [epoch for epoch in curves[0] if all(epoch in curve for curve in curves)]
    return {epoch: statistics.fmean(curve[epoch] for curve in curves) for epoch in epochs}


def _merged(by_test: list[list[Limit]], names: list[str]) -> list[Limit]:
    """Name the test set where there are several, but in what is the same for all of them."""
    found: dict[str, Limit] = {}
    for name, warnings in zip(names, by_test, strict=True):
        for warning in warnings:
            everywhere = all(warning in others for others in by_test)
            text = warning.text if everywhere else f"{name}: {warning.text}"
            found[text] = Limit(warning.kind, text, warning.values)
    return list(found.values())


def _of_the_design(comparison: Comparison, models: list[dict[str, Any]]) -> list[Limit]:
    found = (
        caveats.one_seed(comparison.count),
        caveats.edge_of_grid(models, comparison.pair.titles),
    )
    return [warning for warning in found if warning is not None]


def _facts(pair: Pair, training: str) -> dict[str, Any]:
    record = state.read(pair.run_dir, training)
    return dict(record.facts) if record is not None else {}


def _differences_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each test set and model."""
    rows = []
    for test in content["tests"]:
        for row in test["rows"]:
            cells = {"test": test["name"], "model": row["model"], "sentences": test["sentences"]}
            for metric in filter(row.get, _SCORES):
                cells |= {metric: row[metric]["mean"], f"{metric}_sd": row[metric]["sd"]}
            for baseline, difference in row["differences"].items():
                for metric in filter(difference.get, _SCORES):
                    ends = {key: difference[metric][key] for key in ("mean", "low", "high")}
                    cells |= {f"{metric}_vs_{baseline}_{k}": value for k, value in ends.items()}
            cells["gap_recovered"] = (row["gap_recovered"] or {}).get("bleu")
            rows.append(cells)
    return pd.DataFrame(rows)


def _scores_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each test set, model and seed."""
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
                        **{m: row[m]["by_seed"][index] for m in filter(row.get, _SCORES)},
                        "train_minutes": models[row["model"]]["train_minutes"][index],
                        **p_values,
                    }
                )
    return pd.DataFrame(rows)


def _tuning_frame(content: Mapping[str, Any]) -> pd.DataFrame:
    """A row for each method, point of its grid, and seed."""
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
