"""The stages of a pair, in their order."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from pipeline.engine import files, state
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.models import lenpen, teacher_cache, translators
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair
from pipeline.models.teacher_cache import TeacherCache
from pipeline.models.teacher_texts import TrainingText
from pipeline.models.training import Training
from pipeline.models.translating import Translation
from pipeline.results import evaluate, speed
from pipeline.text import binarize, prepare


def names(models: Iterable[Model]) -> list[str]:
    """Return the names that users type, in their order.

    A kind such as `cache` or `evaluate` is one name for the stages of all teachers or models.
    """
    found = ["prepare", "binarize"]
    for model in models:
        if model.training_text.translated:
            found.append("translate")
        if not model.training_text.plain:
            found.append("text")
        if model.teacher:
            found.append("cache")
        found.append(model.name)
    return list(dict.fromkeys([*found, lenpen.GROUP, "evaluate", "export", speed.NAME, "report"]))


def trainings(pair: Pair) -> list[Training]:
    """Return the trainings of a pair's models."""
    return [Training.of(model) for model in pair.models]


def table(pair: Pair) -> dict[str, Stage]:
    """Return all stages of a pair by name; each stage comes after the stages that it needs."""
    models = trainings(pair)
    results = [
        *(evaluate.stage(t.name, needs=lenpen.needs(pair, t.name)) for t in models),
        *(translators.stage(t.name, needs=lenpen.needs(pair, t.name)) for t in models),
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
        *_of_models(pair, models),
        *lenpen.stages(pair, pair.titles),
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


def _of_models(pair: Pair, models: Iterable[Training]) -> Iterator[Stage]:
    """Yield the stage of each training, and before it the supporting stages that it needs."""
    supports = _supports(pair)
    for training in models:
        stage = training_stage(pair, training)
        yield from _before(stage, supports, lambda stage: stage.needs)
        yield stage


def shared(pair: Pair, words: Collection[str]) -> list[Translation | TeacherCache]:
    """Return the work that several jobs can share.

    Args:
        pair: the language pair.
        words: names of stages, or of kinds of stages: translate or cache.

    Raises:
        PipelineError: a word names another stage, or there is no word.
    """
    by_name: dict[str, Translation | TeacherCache] = {}
    for training in trainings(pair):
        for found in _shareable(pair, training):
            by_name.setdefault(found.name, found)
    known = {*map(group, by_name), *by_name}
    if not words or not set(words) <= known:
        raise PipelineError(f"--shard goes with these alone: {', '.join(sorted(known))}")
    return [found for name, found in by_name.items() if {name, group(name)} & set(words)]


def _shareable(pair: Pair, training: Training) -> Iterator[Translation | TeacherCache]:
    yield from TrainingText(training.training_text).translations
    if training.teacher and training.cached(pair):
        yield TeacherCache(training.teacher, training)


def chosen(pair: Pair, words: Collection[str]) -> list[Stage]:
    """Return the stages that the words name, in their order.

    Without a word, return the stages of all models that are trained by default.

    Raises:
        PipelineError: a word is no stage, or the stage has nothing to work on.
    """
    stages, known = table(pair), names(pair.models)
    if unknown := [word for word in words if word not in (*known, *stages)]:
        raise PipelineError(f"unknown stage {unknown[0]}: choose from {', '.join(known)}")
    asked = _asked(pair, stages, words)
    untrained = {
        name(model.name)
        for model in pair.models
        if model.name not in asked and not state.is_done(pair.run_dir, model.name)
        for name in (lenpen.name, evaluate.name, translators.name)
    }
    asked -= untrained - set(words)
    # Finished lenpen stages too: a retrained model needs a new choice.
    asked |= {need for name in asked for need in stages[name].needs if group(need) == lenpen.GROUP}
    groups = {group(name) for name in asked}
    for word in ("evaluate", "export"):
        if word in words and word not in groups:
            raise PipelineError(f"{word} needs a trained model, and none is done")
    if "cache" in words and "cache" not in groups:
        raise PipelineError(f"no training of {pair.name} has task.teacher_cache: no cache is used")
    scored = any(evaluate.scores(pair, model.name) for model in pair.models)
    if "report" in asked and "evaluate" not in groups and not scored:
        raise PipelineError("report needs evaluate, which is not done")
    if speed.NAME in words and "export" not in groups and not translators.exported(pair):
        raise PipelineError("speed needs export, which is not done")
    found = {stage.name for stage in with_supports(pair, [stages[name] for name in asked])}
    return [stage for name, stage in stages.items() if name in found]


def _asked(pair: Pair, stages: Mapping[str, Stage], words: Collection[str]) -> set[str]:
    """Return the names of the stages that the words name.

    A kind, such as evaluate, names the stages of this kind that default models need. If default
    models need none, the kind names all its stages.
    """
    others = {model.name for model in pair.models} - {model.name for model in pair.default_models}
    supports = _supports(pair)
    usual = stages.keys() - others - supports.keys()
    for name in tuple(usual):
        usual |= {stage.name for stage in _before(stages[name], supports, lambda s: s.needs)}
    if not words:
        return usual
    asked = stages.keys() & set(words)
    for word in set(words) - asked:
        of_kind = {name for name in stages if group(name) == word}
        asked |= of_kind & usual or of_kind
    return asked


def with_supports(pair: Pair, stages: Iterable[Stage]) -> list[Stage]:
    """Return the stages, and before them the supporting stages that are missing.

    Supporting stages make a teacher's translations, texts of translations, and a teacher's answers.
    """
    supports, stages = _supports(pair), list(stages)
    there = {stage.name for stage in stages}
    new: dict[str, Stage] = {}
    for stage in stages:
        needed = list(_before(stage, supports, lambda stage: stage.missing(pair)))
        known = there | {stage.name for stage in needed}
        if set(stage.missing(pair)) <= known:  # otherwise the stage cannot run
            new |= {stage.name: stage for stage in needed if stage.name not in there}
    return [*new.values(), *stages]


def training_stage(pair: Pair, training: Training) -> Stage:
    """Return the stage that trains a model."""
    filled = (teacher_cache.name(training),) if training.cached(pair) else ()
    return Stage(
        training.name,
        training.run,
        training.inputs,
        needs=(*training.needs, *filled),
        clear=training.clear,
        begun=training.begun,
    )


def group(name: str) -> str:
    """Return the kind of a stage: the part of its name before the first dot."""
    return name.partition(".")[0]


def _supports(pair: Pair) -> dict[str, Stage]:
    """Return the supporting stages by name: translations, texts, and teachers' answers.

    If several trainings read the same answers, the config of the first training is used.
    """
    found: dict[str, Stage] = {}
    for training in trainings(pair):
        text = TrainingText(training.training_text)
        stages = [translation.stage(pair) for translation in text.translations]
        if not text.text.plain:
            stages.append(text.stage)
        if training.teacher and training.cached(pair):
            stages.append(TeacherCache(training.teacher, training).stage)
        for stage in stages:
            found.setdefault(stage.name, stage)
    return found


def _before(
    stage: Stage, supports: Mapping[str, Stage], needs: Callable[[Stage], Iterable[str]]
) -> Iterator[Stage]:
    """Yield the supporting stages that a stage needs, each after its own needs."""
    for need in needs(stage):
        if need in supports:
            yield from _before(supports[need], supports, needs)
            yield supports[need]


def _report(pair: Pair) -> dict[str, Any]:
    # Imported here: the import of torch, fairseq and matplotlib takes seconds.
    from pipeline.results import report

    say(f"\n{report.build(pair)}")
    say(f"report: {pair.run_dir / 'report.html'} (and report.md, report.json)")
    if line := speed.command_line(pair):
        say(f"\nto translate with the best exported student:\n  {line}")
    return {}
