"""The learners of a pair with several seeds: how much of a table is luck."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from pipeline import evaluate, files, stages, state
from pipeline.progress import say
from pipeline.settings import Pair
from pipeline.stage import Stage
from pipeline.train import Training

BASELINE = "control"
_SEED = "common.seed"


def trainings(pair: Pair, count: int) -> dict[int, dict[str, Training]]:
    """Return the learner and its fine-tunings for each seed; there is one teacher for all.

    Args:
        pair: the first seed is that of its configs: those trainings are the pair's own.
        count: how many seeds.
    """
    wanted = {model.name for model in pair.default_models} - set(_teachers(pair))
    own = {t.name: t for t in stages.trainings(pair) if t.name in wanted}
    first = min(int(training.resolved(pair)[_SEED]) for training in own.values())
    others = range(first + 1, first + count)
    return {first: own, **{seed: _with_seed(own, seed) for seed in others}}


def table_of(pair: Pair, count: int) -> list[Stage]:
    """Return the stages that a table of `count` seeds takes beyond the pair's own."""
    found = trainings(pair, count)
    models = [training for others in list(found.values())[1:] for training in others.values()]
    scored = [evaluate.stage(training.name) for training in models]
    needs = [evaluate.name(t.name) for seed in found.values() for t in seed.values()]
    needs += [evaluate.name(teacher) for teacher in _teachers(pair)]
    report = Stage(
        "seeds",
        functools.partial(_report, count=count),
        inputs=None,
        needs=tuple(needs),
    )
    return [*(stages.training_stage(pair, training) for training in models), *scored, report]


def collect(pair: Pair, count: int) -> pd.DataFrame:
    """Return a row for each model and seed: model, seed, bleu, chrf, length_ratio."""
    return pd.DataFrame(_rows(pair, count))


def summary(scores: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """Return mean and range over seeds for each model, and of its differences to the control.

    Args:
        scores: what `collect` returns.
        names: what the models are called.
    """
    baseline = scores[scores.model == BASELINE].set_index("seed").bleu
    against = scores.bleu - scores.seed.map(baseline)
    scores = scores.assign(against=against.mask(scores.model == BASELINE))
    rows = []
    for model, found in scores.groupby("model", sort=False):
        row = {"model": names[str(model)], "seeds": len(found)}
        row["BLEU"] = _mean_and_range(found.bleu)
        row["chrF"] = _mean_and_range(found.chrf)
        row["length"] = _mean_and_range(found.length_ratio, digits=2)
        row[f"BLEU − {BASELINE}'s"] = _mean_and_range(found.against, sign="+")
        rows.append(row)
    return pd.DataFrame(rows)


def _teachers(pair: Pair) -> list[str]:
    taught = {model.teacher for model in pair.models}
    return [model.name for model in pair.models if model.name in taught]


def _with_seed(own: dict[str, Training], seed: int) -> dict[str, Training]:
    return {
        name: replace(
            training,
            name=_named(name, seed),
            start=_named(training.start, seed) if training.start in own else training.start,
            settings={**training.settings, _SEED: seed, "checkpoint.no_epoch_checkpoints": True},
        )
        for name, training in own.items()
    }


def _named(model: str, seed: int) -> str:
    return f"seeds/{seed}/{model}"


def _rows(pair: Pair, count: int) -> Iterator[dict[str, Any]]:
    found = trainings(pair, count)
    for teacher in _teachers(pair):
        yield {"model": teacher, "seed": None, **_scores(pair, teacher)}
    for model in next(iter(found.values())):
        for seed, models in found.items():
            yield {"model": model, "seed": seed, **_scores(pair, models[model].name)}


def _scores(pair: Pair, training: str) -> dict[str, float]:
    scores = evaluate.scores(pair, training) or {}
    return {key: scores[key] for key in ("bleu", "chrf", "length_ratio")}


def _mean_and_range(values: pd.Series, digits: int = 1, sign: str = "") -> str:
    values = values.dropna()
    if values.empty:
        return "–"
    text = f"{values.mean():{sign}.{digits}f}"
    if len(values) == 1:
        return text
    return f"{text} ({values.min():{sign}.{digits}f} to {values.max():{sign}.{digits}f})"


def _report(pair: Pair, count: int) -> dict[str, Any]:
    from pipeline import report  # not above: it takes torch, fairseq and matplotlib, for seconds

    scores = collect(pair, count)
    table = summary(scores, pair.titles)
    facts = state.read(pair.run_dir, "prepare")
    pairs = facts.facts.get("pairs", {}) if facts is not None else {}
    signature = next(iter(evaluate.scores(pair, scores.model[0])["signatures"].values()))
    lines = [
        f"# {pair.name}: {count} seeds",
        "",
        table.to_markdown(
            index=False, disable_numparse=True, colalign=("left", *["right"] * (table.shape[1] - 1))
        ),
        "",
        "- Mean over seeds, and from the lowest to the highest; the seed is that of the learner's "
        "own training and of its fine-tuning. Differences are within a seed.",
        f"- {pairs.get('test')} test sentences; `{signature}`",
        *(f"- {key}: {value}" for key, value in report.system().items()),
        "",
    ]
    files.write_text(pair.run_dir / "seeds.csv", scores.to_csv(index=False))
    files.write_text(pair.run_dir / "seeds.md", "\n".join(lines))
    say("\n" + "\n".join(lines))
    say(f"seeds: {pair.run_dir / 'seeds.md'} (and seeds.csv)")
    return {}
