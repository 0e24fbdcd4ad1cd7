"""Collect the contents of the tables: scores on test sets, differences, and warnings.

A report has one training of each model. A comparison has one training of each model for each seed.
The same tables and the same page show both.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.engine import state
from pipeline.engine.progress import bar
from pipeline.models import lenpen, training_log, translators
from pipeline.models.settings import Pair
from pipeline.results import (
    caveats,
    comet,
    evaluate,
    gap_recovered,
    machine,
    significance,
    sufficient_statistics,
)
from pipeline.results.caveats import Limit
from pipeline.results.evaluation_sets import MAIN, EvaluationSet
from pipeline.results.hierarchical import Differences

SCORES = (*sufficient_statistics.METRICS, comet.METRIC, "length_ratio")
"""The metrics that a row may have, in the order of the files' columns."""


@dataclass(frozen=True)
class Shown:
    """The models that tables show.

    Attributes:
        pair: the pair of the runs.
        trainings: the names of each model's trainings, in the order of the tables: one training
            for each seed, or a single training.
        methods: the compared methods; other models are shown beside them.
        baselines: the models that differences are computed against.
        seeds: the seeds in the order of the trainings; None if the seed is not known.
        tests: the test sets.
        comet: COMET's model, as in `comet.check`; None: no COMET.
    """

    pair: Pair
    trainings: Mapping[str, Sequence[str]]
    methods: Sequence[str]
    baselines: Sequence[str]
    seeds: Sequence[int | None] = (None,)
    tests: Sequence[EvaluationSet] = (MAIN,)
    comet: str | None = None


def collect(shown: Shown) -> dict[str, Any]:
    """Return the models, their rows on each test set, and the warnings, ready for JSON."""
    pair = shown.pair
    curves = {
        model: [curve(pair, name, "valid_bleu") for name in names]
        for model, names in shown.trainings.items()
    }
    means = {model: mean_curve(of_model) for model, of_model in curves.items()}
    found = [_test_set(shown, which, means) for which in shown.tests]
    tests = [test for test, _ in found]
    warnings = _merged([warnings for _, warnings in found], [test["name"] for test in tests])
    trained = [name for names in shown.trainings.values() for name in names]
    chosen = "chosen on validation" if pair.decoding.lenpen is None else pair.decoding.lenpen
    return {
        "pair": pair.name,
        "languages": list(pair.languages),
        "seeds": list(shown.seeds),
        "methods": list(shown.methods),
        "baselines": list(shown.baselines),
        "comet": shown.comet,
        "models": [
            _model(pair, model, names, curves[model]) for model, names in shown.trainings.items()
        ],
        "tests": tests,
        "warnings": [asdict(warning) for warning in warnings],
        "decoding": {
            "beam": pair.decoding.beam,
            "beams": list(pair.decoding.beams),
            "lenpen": chosen,
        },
        "system": machine.facts(machine.threads_of(pair, trained)),
    }


def curve(pair: Pair, training: str, key: str) -> dict[int, float]:
    """Return the values that a finished training logged under `key`, by epoch."""
    log = pair.files.log(training)
    if not state.is_done(pair.files.run_dir, training) or not log.exists():
        return {}
    return training_log.by_epoch(training_log.read(log), key)


def mean_curve(curves: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """Return the mean of curves by epoch, for their common epochs."""
    epochs = [epoch for epoch in curves[0] if all(epoch in found for found in curves)]
    return {epoch: statistics.fmean(found[epoch] for found in curves) for epoch in epochs}


def _model(
    pair: Pair, model: str, trainings: Sequence[str], curves: Sequence[Mapping[int, float]]
) -> dict[str, Any]:
    """Return a model's facts without test sets; size and export are the first training's."""
    facts = [state.facts(pair.files.run_dir, training) for training in trainings]
    seconds = [found.get("train_seconds") for found in facts]
    return {
        "model": model,
        "trainings": list(trainings),
        "valid_bleu": [max(found.values()) for found in curves if found],
        "parameters": facts[0].get("parameters"),
        "train_minutes": [None if s is None else s / 60 for s in seconds],
        "trained_before": "given" in facts[0],
        "export": translators.facts(pair, trainings[0]),
        "lenpen": [lenpen.of(pair, training) for training in trainings],
    }


def _test_set(
    shown: Shown, which: EvaluationSet, curves: caveats.Curves
) -> tuple[dict[str, Any], list[Limit]]:
    """Return the scores of all models on one test set, and the limits of these scores."""
    pair = shown.pair
    references = evaluate.references(pair, which)
    scored = {m: [_scores(shown, t, which) for t in ts] for m, ts in shown.trainings.items()}
    differences, bleu = _differences(shown, which, references)
    rows = [
        {
            "model": model,
            **{
                metric: _over_seeds([scores[metric] for scores in of_model])
                for metric in SCORES
                if metric in of_model[0]
            },
            "differences": differences[model],
        }
        for model, of_model in scored.items()
    ]
    rated = (*gap_recovered.BASES, *shown.methods)  # without a second teacher
    means = [
        {"model": row["model"], **{metric: row[metric]["mean"] for metric in gap_recovered.METRICS}}
        for row in rows
        if row["model"] in rated
    ]
    shares = gap_recovered.recovered(means)
    for row in rows:
        row["gap_recovered"] = shares.get(row["model"])
    pairs = [(a, b) for a in scored for b in scored if a != b]
    both = {(a, b): bleu.interval(a, b) for a, b in pairs}
    sentences = {(a, b): bleu.interval(a, b, seeds=False) for a, b in pairs}
    test = {
        "name": which.title(pair),
        "sentences": len(references),
        "signatures": _signatures(shown, scored),
        "rows": rows,
        "leader": caveats.leader(means, both),
    }
    return test, caveats.warnings(means, curves, sentences, len(references), pair.titles)


def _differences(
    shown: Shown, which: EvaluationSet, references: list[str]
) -> tuple[dict[str, dict[str, Any]], Differences]:
    """Return each model's differences to each baseline, and the BLEU differences of all pairs."""
    pair, trained = shown.pair, shown.trainings
    texts = {m: [evaluate.hypotheses(pair, t, which) for t in ts] for m, ts in trained.items()}
    found = {m: Differences.of_texts(m, texts, references) for m in sufficient_statistics.METRICS}
    if shown.comet is not None:
        counts = {m: [comet.counts(pair, t, which) for t in ts] for m, ts in trained.items()}
        found[comet.METRIC] = Differences(counts, comet.of_sums)
    p_values = _p_values(shown, texts, references, which)
    versus = {
        model: {
            baseline: {
                **{metric: _difference(found[metric], model, baseline) for metric in found},
                "p_values": p_values[baseline][model],
            }
            for baseline in shown.baselines
            if baseline != model
        }
        for model in trained
    }
    return versus, found["bleu"]


def _scores(shown: Shown, training: str, which: EvaluationSet) -> dict[str, Any]:
    stages = [evaluate.name(training, which)]
    if shown.comet is not None:
        stages.append(comet.name(training, which))
    return {k: v for name in stages for k, v in state.facts(shown.pair.files.run_dir, name).items()}


def _signatures(shown: Shown, scored: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, str]:
    found = dict(next(iter(scored.values()))[0]["signatures"])
    return found if shown.comet is None else {**found, "COMET": comet.signature(shown.comet)}


def _over_seeds(values: Sequence[float]) -> dict[str, Any]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "sd": deviation, "by_seed": list(values)}


def _difference(found: Differences, model: str, baseline: str) -> dict[str, Any]:
    by_seed = found.by_seed(model, baseline)
    interval = asdict(found.interval(model, baseline))
    return {"mean": float(np.mean(by_seed)), **interval, "by_seed": by_seed.tolist()}


def _p_values(
    shown: Shown,
    texts: Mapping[str, list[list[str]]],
    references: list[str],
    which: EvaluationSet,
) -> dict[str, dict[str, list[float]]]:
    """Return sacrebleu's p-value for each seed, by baseline and model."""
    found = {baseline: {name: [] for name in shown.trainings} for baseline in shown.baselines}
    turns = [(i, baseline) for i in range(len(shown.seeds)) for baseline in shown.baselines]
    for index, baseline in bar(turns, f"testing on {which.title(shown.pair)}"):
        of_seed = {name: text[min(index, len(text) - 1)] for name, text in texts.items()}
        for name, p_value in significance.p_values(of_seed, baseline, references).items():
            found[baseline][name].append(p_value)
    return found


def _merged(by_test: list[list[Limit]], names: list[str]) -> list[Limit]:
    """Return the warnings once each; name the test set if a warning differs between test sets."""
    found: dict[str, Limit] = {}
    for name, warnings in zip(names, by_test, strict=True):
        for warning in warnings:
            everywhere = all(warning in others for others in by_test)
            text = warning.text if everywhere else f"{name}: {warning.text}"
            found[text] = Limit(warning.kind, text, warning.values)
    return list(found.values())
