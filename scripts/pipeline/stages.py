"""The stages of a pair, in their order, and the words that name them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Any

from pipeline.engine import state
from pipeline.engine.errors import PipelineError
from pipeline.engine.plan import plan
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.models import lenpen, plugin, translators
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair
from pipeline.models.teacher_cache import TeacherCache
from pipeline.models.teacher_texts import TrainingText
from pipeline.models.training import CACHE, Training
from pipeline.results import evaluate, speed
from pipeline.text import binarize, prepare

_RESULTS = (lenpen.GROUP, "evaluate", "export")
"""The kinds of stages that each trained model has."""


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
    return list(dict.fromkeys([*found, *_RESULTS, speed.NAME, "report"]))


def trainings(pair: Pair) -> list[Training]:
    """Return the trainings of a pair's models."""
    return [Training.of(model) for model in pair.models]


def table(pair: Pair) -> dict[str, Stage]:
    """Return all stages of a pair by name; each stage comes after the stages that it needs.

    If several trainings read the same answers of a teacher, the config of the first training is
    used.
    """
    results = [
        *(evaluate.stage(pair, model) for model in pair.titles),
        *(translators.stage(pair, model) for model in pair.titles),
    ]
    scored = tuple(stage.name for stage in results)
    found: dict[str, Stage] = {}
    for stage in (
        prepare.stage(pair),
        binarize.stage(pair),
        *(stage for training in trainings(pair) for stage in _of_training(pair, training)),
        *lenpen.stages(pair, pair.titles),
        *results,
        speed.stage(pair, after=scored),
        Stage("report", lambda slot: _report(pair), inputs=None, after=(*scored, speed.NAME)),
    ):
        found.setdefault(stage.name, stage)
    return found


def _of_training(pair: Pair, training: Training) -> Iterator[Stage]:
    """Yield the stages of a training's text and of its teacher's answers, and its own."""
    text = TrainingText(training.training_text)
    yield from (translation.stage(pair) for translation in text.translations)
    if not text.text.plain:
        yield text.stage(pair)
    if training.cached(pair):
        yield TeacherCache(str(training.teacher), training).stage(pair)
    yield training.stage(pair)


def named(pair: Pair, words: Collection[str]) -> set[str]:
    """Return the names of the stages that the words name.

    Without a word, these are all stages of the models that are trained by default. A kind such as
    `cache` names the stages of this kind that default models need; if they need none, it names all
    stages of this kind. `evaluate`, `export` and `lenpen` name the stages of all models that are
    trained, or that the other words train.

    Raises:
        PipelineError: a word is no stage, or the stage has nothing to work on.
    """
    stages, known = table(pair), names(pair.models)
    if unknown := [word for word in words if word not in (*known, *stages)]:
        raise PipelineError(f"unknown stage {unknown[0]}: choose from {', '.join(known)}")
    default = [model.name for model in pair.default_models]
    usual = {stage.name for stage in plan(stages, default, done=lambda name: False)}
    asked = set(words) or {*usual, *_RESULTS, speed.NAME, "report"}
    found = asked & stages.keys()
    # Kinds: first those that make models, as the results are of the models that there are then.
    for kind in asked - found - {*_RESULTS}:
        of_kind = {name for name in stages if group(name) == kind}
        found |= of_kind & usual or of_kind
    made = {stage.name for stage in chosen(pair, found)}
    trained = [
        name for name in pair.titles if name in made or state.is_done(pair.files.run_dir, name)
    ]
    results = {f"{kind}.{model}" for kind in asked.intersection(_RESULTS) for model in trained}
    found |= results & stages.keys()
    _check(pair, words, {group(name) for name in found})
    return found


def _check(pair: Pair, words: Collection[str], kinds: Collection[str]) -> None:
    """Raise a `PipelineError` if a word names a stage that has nothing to work on.

    Args:
        pair: the language pair.
        words: the words of the command line.
        kinds: the kinds of the stages that the words name.
    """
    for word in words:
        if group(word) in kinds:
            continue
        if word == "cache":
            raise PipelineError(
                f"no training of {pair.name} has task.teacher_cache: no cache is used"
            )
        if word == lenpen.GROUP and pair.decoding.lenpen is not None:
            raise PipelineError(f"decoding.lenpen of {pair.name} is a number: lenpen chooses none")
        raise PipelineError(f"{word} needs a trained model, and none is done: name a model too")
    scored = any(evaluate.scores(pair, model) for model in pair.titles)
    if "report" in kinds and "evaluate" not in kinds and not scored:
        raise PipelineError("report needs evaluate, which is not done: name evaluate too")
    if speed.NAME in words and "export" not in kinds and not translators.exported(pair):
        raise PipelineError("speed needs export, which is not done: name export too")


def chosen(pair: Pair, targets: Iterable[str], forced: Collection[str] = ()) -> list[Stage]:
    """Return the named stages, and the stages that they need and that are not done.

    Args:
        pair: the language pair.
        targets: names of stages.
        forced: names of the stages that are made again even if they are done.
    """
    stages = table(pair)

    def done(name: str) -> bool:
        # A finished choice of a length penalty is looked at again: the model may be retrained.
        # So is a cache if its teacher is made again: the cache goes with the teacher's folder.
        again = group(name) == lenpen.GROUP or (
            group(name) == CACHE and not set(forced).isdisjoint(stages[name].needs)
        )
        return not again and state.is_done(pair.files.run_dir, name)

    return plan(stages, targets, done)


def shared(pair: Pair, words: Collection[str]) -> list[Stage]:
    """Return the stages that the words name, if several jobs can share the work of each.

    Raises:
        PipelineError: a word names another stage, or there is no word.
    """
    stages = table(pair)
    shareable = [name for name, stage in stages.items() if stage.share]
    known = {*map(group, shareable), *shareable}
    if not words or not known.issuperset(words):
        raise PipelineError(f"--shard goes with these alone: {', '.join(sorted(known))}")
    found = named(pair, words)
    return [stages[name] for name in shareable if name in found]


def group(name: str) -> str:
    """Return the kind of a stage: the part of its name before the first dot."""
    return name.partition(".")[0]


def _report(pair: Pair) -> dict[str, Any]:
    # Imported here: the import of torch, fairseq and matplotlib takes seconds.
    plugin.load()
    from pipeline.results import report

    say(f"\n{report.build(pair)}")
    say(f"report: {pair.files.run_dir / 'report.html'} (and report.md, report.json)")
    if line := speed.command_line(pair):
        say(f"\nto translate with the best exported student:\n  {line}")
    return {}
