"""The stages of a pair, in their order."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from pipeline import binarize, cache, deployment, evaluate, files, prepare, speed, state
from pipeline.errors import PipelineError
from pipeline.models import Model
from pipeline.progress import say
from pipeline.settings import Pair
from pipeline.stage import Stage
from pipeline.train import Training


def names(models: Iterable[Model]) -> list[str]:
    """Return what users type: of `cache` each teacher has a stage, of others each model."""
    models = list(models)
    return [
        *("prepare", "binarize"),
        *(model.name for model in models if not model.teacher),
        "cache",
        *(model.name for model in models if model.teacher),
        *("evaluate", "export", speed.NAME, "report"),
    ]


def trainings(pair: Pair) -> list[Training]:
    """Return what makes the models of a pair."""
    return [Training(**vars(model)) for model in pair.models]


def table(pair: Pair) -> dict[str, Stage]:
    """Return all stages of a pair by name, each one after those that it needs."""
    caches, models = _caches(pair), trainings(pair)
    results = [
        *(evaluate.stage(training.name) for training in models),
        *(deployment.stage(training.name) for training in models),
    ]
    stages = (
        Stage(
            "prepare",
            prepare.run,
            prepare.inputs,
            clear=lambda pair: files.remove(pair.text_dir),
        ),
        Stage(
            "binarize",
            binarize.run,
            binarize.inputs,
            needs=("prepare",),
            clear=lambda pair: files.remove(pair.bin_dir),
        ),
        *(training_stage(pair, training) for training in models if not training.teacher),
        *caches.values(),
        *(training_stage(pair, training) for training in models if training.teacher),
        *results,
        speed.stage(after=tuple(stage.name for stage in results)),
        Stage(
            "report",
            _report,
            inputs=None,
            after=(*(stage.name for stage in results), speed.NAME),
        ),
    )
    return {stage.name: stage for stage in stages}


def chosen(pair: Pair, words: Collection[str]) -> list[Stage]:
    """Return the stages that the words ask for, in their order; without a word all of them.

    Raises:
        PipelineError: a word is no stage, or there is nothing for it to work on.
    """
    stages, known = table(pair), names(pair.models)
    if unknown := [word for word in words if word not in (*known, *stages)]:
        raise PipelineError(f"unknown stage {unknown[0]}: choose from {', '.join(known)}")
    asked = {name for name in stages if not words or {name, group(name)} & set(words)}
    untrained = {
        name(model.name)
        for model in pair.models
        if model.name not in asked and not state.is_done(pair.run_dir, model.name)
        for name in (evaluate.name, deployment.name)
    }
    asked -= untrained - set(words)
    groups = {group(name) for name in asked}
    for word in ("evaluate", "export"):
        if word in words and word not in groups:
            raise PipelineError(f"{word} needs a trained model, and none is done")
    if "cache" in words and "cache" not in groups:
        raise PipelineError(f"no training of {pair.name} has task.teacher_cache, so none needs one")
    scored = any(evaluate.scores(pair, model.name) for model in pair.models)
    if "report" in asked and "evaluate" not in groups and not scored:
        raise PipelineError("report needs evaluate, which is not done")
    if speed.NAME in words and "export" not in groups and not deployment.exported(pair):
        raise PipelineError("speed needs export, which is not done")
    found = {stage.name for stage in with_caches(pair, [stages[name] for name in asked])}
    return [stage for name, stage in stages.items() if name in found]


def with_caches(pair: Pair, stages: Iterable[Stage]) -> list[Stage]:
    """Return the stages, and before them the caches that they need and that are not filled yet."""
    caches, stages = _caches(pair), list(stages)
    there = {stage.name for stage in stages}
    new: dict[str, Stage] = {}
    for stage in stages:
        missing = set(stage.missing(pair)) - there
        if missing <= caches.keys():  # else it cannot run anyway
            new |= {name: caches[name] for name in missing}
    return [*new.values(), *stages]


def training_stage(pair: Pair, training: Training) -> Stage:
    """Return the stage that makes a model."""
    filled = (cache.name(training.teacher),) if training.cached(pair) else ()
    return Stage(
        training.name,
        training.run,
        training.inputs,
        needs=(*training.needs, *filled),
        clear=training.clear,
        begun=training.begun,
    )


def group(name: str) -> str:
    """Return what users type for a stage, or for all of its kind."""
    return name.partition(".")[0]


def _caches(pair: Pair) -> dict[str, Stage]:
    """Return the stage of each teacher whose answers a training reads from a cache."""
    readers: dict[str, Training] = {}
    for training in trainings(pair):
        if training.teacher and training.cached(pair):
            readers.setdefault(training.teacher, training)
    stages = [cache.TeacherCache(teacher, reader).stage for teacher, reader in readers.items()]
    return {stage.name: stage for stage in stages}


def _report(pair: Pair) -> dict[str, Any]:
    from pipeline import report  # not above: it takes torch, fairseq and matplotlib, for seconds

    say(f"\n{report.build(pair)}")
    say(f"report: {pair.run_dir / 'report.html'} (and report.md, report.json)")
    if line := speed.command_line(pair):
        say(f"\nto translate with the best exported student:\n  {line}")
    return {}
