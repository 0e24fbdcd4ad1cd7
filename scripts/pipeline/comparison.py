"""A comparison of methods: the trainings that it takes, with seeds and settings, as stages."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline import stages
from pipeline.engine import files, state
from pipeline.engine.errors import PipelineError
from pipeline.engine.stage import Stage
from pipeline.models import grid, lenpen, students, translators
from pipeline.models.grid import Point
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair
from pipeline.models.training import Training
from pipeline.results import comet, evaluate, speed
from pipeline.results.evaluation_sets import MAIN, EvaluationSet
from pipeline.results.gap_recovered import BASES

NAME = "compare"
FILE = f"{NAME}.json"
POINTS = f"{NAME}/speed"
"""The stage that measures the models of a comparison, each at each beam."""
SEED = "common.seed"
FROM_LEARNER, FROM_FINETUNE = SEEDS_FROM = ("learner", "finetune")
"""What a seed covers: the learner's own training and the fine-tuning, or the latter alone."""


@dataclass(frozen=True)
class Grid:
    """What is tried for each method; nothing: what its config has."""

    rates: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    sizes: tuple[int | None, ...] = ()

    def points(self, pair: Pair, model: Model) -> list[Point]:
        """Return the points for a method: λ is for those with a teacher, k for top-k ones."""
        settings = Training.of(model).resolved(pair)
        topk = settings["criterion._name"] == "topk_kl" or settings.get("criterion.top_k")
        weights = self.weights if model.teacher else ()
        sizes = self.sizes if model.teacher and topk else ()
        values = itertools.product(weights or (None,), sizes or (None,), self.rates or (None,))
        return [Point(model, *point) for point in values]


@dataclass(frozen=True)
class Comparison:
    """What is compared.

    Attributes:
        pair: whose models they are.
        methods: names of models, in the order of the tables.
        count: how many seeds; the first is that of the configs.
        seeds_from: one of `SEEDS_FROM`.
        grid: what is tried for each method, the same for all.
        tests: the test sets.
        comet: COMET's model, as in `comet.check`; None: it is not computed.
        against: of the models that are shown, those that differences are taken to; empty: those
            of `tables.BASELINES` that are compared.
        students: the sizes at which all but teachers are trained: presets, or `students.OWN`. What
            is said of trainings below is said of the first; `sizes` has each for itself.
    """

    pair: Pair
    methods: tuple[str, ...]
    count: int
    seeds_from: str = FROM_LEARNER
    grid: Grid = Grid()
    tests: tuple[EvaluationSet, ...] = (MAIN,)
    comet: str | None = None
    against: tuple[str, ...] = ()
    students: tuple[str, ...] = (students.OWN,)

    @property
    def sizes(self) -> list[Comparison]:
        """The same at each size."""
        return [dataclasses.replace(self, students=(student,)) for student in self.students]

    @property
    def size(self) -> str:
        """What tables call the size; nothing where it is the pair's own."""
        return "" if self.students[0] == students.OWN else self.students[0]

    def size_of(self, name: str) -> str:
        """Return the same of a model: teachers keep their size.

        So does a learner where the size is a number of layers that others take over.
        """
        if not self.size or name in self.teachers:
            return ""
        kept = students.layers(self.size, self.pair.config_dir) is not None
        return "" if kept and not students.takes_over(self._own, name) else self.size

    @functools.cached_property
    def seeds(self) -> list[int]:
        """The seeds."""
        own = (Training.of(self._models[name]) for name in self.methods)
        first = min(int(training.resolved(self.pair)[SEED]) for training in own)
        return list(range(first, first + self.count))

    @functools.cached_property
    def points(self) -> dict[str, list[Point]]:
        """What is tried, by method."""
        return {name: self.grid.points(self.pair, self._models[name]) for name in self.methods}

    @property
    def teachers(self) -> list[str]:
        """The models that teach one of the methods, and the one that the gap is taken to."""
        taught = {BASES[0]}.union(*(self._own[name].teachers for name in self.methods))
        return [name for name in self._own if name in taught]

    @property
    def starts(self) -> list[str]:
        """The models that the methods go on from, and those that these go on from."""
        found: set[str] = set()
        for name in self.methods:
            while (name := self._own[name].start or "") and name not in found:
                found.add(name)
        return [name for name in self._own if name in found]

    @property
    def shown(self) -> list[str]:
        """All models of the tables, in their order."""
        usual = {name for name in BASES if self._models[name].default}
        bases = {*usual, *self.teachers, *self.starts} - set(self.methods)
        return [*(name for name in self._models if name in bases), *self.methods]

    def training(self, point: Point, seed: int) -> Training:
        """Return what makes a point of the grid with a seed.

        With the size and the settings of its config and the seed of the configs, it is the pair's
        own training.
        """
        model = point.model
        start = model.start
        if start is not None and start not in self.teachers:
            of_start = seed if self._seeded(start) else self.seeds[0]
            start = self.training(Point(self._models[start]), of_start).name
        size = self.size_of(model.name)
        folder = f"{NAME}/{size}" if size else NAME
        if seed == self.seeds[0]:
            if point == Point(model) and not size:
                return Training.of(model)
            return point.training(f"{folder}/{seed}", start)
        alone = "" if self.seeds_from == FROM_LEARNER else f"{FROM_FINETUNE}/"
        return point.training(f"{folder}/{alone}{seed}", start, **{SEED: seed})

    def trainings(self, name: str) -> list[Training]:
        """Return what makes a model of the tables, in the order of the seeds.

        Returns:
            One for each seed, or a single one of a model that the seeds do not cover. Of a method
            that is tuned, those with the settings that were chosen: its trainings are done.
        """
        if name in self.teachers:
            return [Training.of(self._own[name])]
        if not self._seeded(name):
            return [self.training(Point(self._models[name]), self.seeds[0])]
        point = self.choose(name) if name in self.methods else Point(self._models[name])
        return [self.training(point, seed) for seed in self.seeds]

    def choose(self, method: str) -> Point:
        """Return the point with the best BLEU on validation, as mean over the seeds.

        Of equal ones the first is taken. Where only one was tried its trainings need not be done.
        """
        tried = self.points[method]
        if len(tried) == 1:
            return tried[0]
        return max(tried, key=lambda point: statistics.fmean(self.valid_bleu(point)))

    def valid_bleu(self, point: Point) -> list[float]:
        """Return a point's BLEU on validation with each seed, of the checkpoint that was chosen."""
        return [grid.best_bleu(self.pair, self.training(point, seed)) for seed in self.seeds]

    def scores_of(self, training: str, which: EvaluationSet) -> list[Stage]:
        """Return the stages that score a trained model: each needs those before it."""
        needs = lenpen.needs(self.pair, training)
        own = [*lenpen.stages(self.pair, [training]), evaluate.stage(training, which, needs)]
        return own if self.comet is None else [*own, comet.stage(training, which, self.comet)]

    def stages(self, report: Callable[[Comparison], dict[str, Any]]) -> list[Stage]:
        """Return all stages: those of the pair that are needed, trainings, scores, and the tables.

        Args:
            report: writes the tables, when all else is done.
        """
        made = {t.name: t for one in self.sizes for t in one.made}
        scores = {stage.name: stage for one in self.sizes for stage in one.scores()}
        points = speed.stage(
            tuple(scores),
            name=POINTS,
            models=lambda pair: dataclasses.replace(self, pair=pair).exported,
            timed=lambda pair: dataclasses.replace(self, pair=pair).timed,
            tests=self.tests,
        )
        last = Stage(
            NAME,
            lambda pair: report(dataclasses.replace(self, pair=pair)),
            inputs=None,
            after=(*scores, POINTS),
        )
        own = stages.table(self.pair)
        new = [stages.training_stage(self.pair, t) for t in made.values() if t.name not in own]
        further = [which.stage for which in self.tests if which != MAIN]
        scores = [stage for name, stage in scores.items() if name not in own]
        wanted = [*new, *further, *scores, points, last]
        needed = _needed(own, wanted, made)
        # Its page has a section for these tables.
        page = []
        if MAIN in self.tests:
            report_stage = own["report"]
            page = [dataclasses.replace(report_stage, after=(*report_stage.after, NAME))]
        return [*(stage for name, stage in own.items() if name in needed), *wanted, *page]

    @property
    def made(self) -> list[Training]:
        """All trainings that it takes, of one size."""
        # A method that another one starts from is needed as its config has it.
        starts = (
            self.training(Point(self._models[n]), s) for n in self._continued for s in self.seeds
        )
        return [*(t for name in self.shown for t in self.all_trainings(name)), *starts]

    def scores(self) -> list[Stage]:
        """Return the stages that export and score all models, of one size."""
        return [
            stage
            for name in self.shown
            for index in range(len(self.all_trainings(name, 1)))
            for stage in self._scores(name, index)
        ]

    @property
    def exported(self) -> list[str]:
        """The trainings whose models have a folder, of all sizes, as they were chosen."""
        return self._exported(None)

    @property
    def timed(self) -> list[str]:
        """The same of the first seed: models of one shape translate at one speed."""
        return self._exported(1)

    def _exported(self, most: int | None) -> list[str]:
        names = [
            training.name
            for one in self.sizes
            for name in one.shown
            for training in one.trainings(name)[:most]
        ]
        return translators.exported(self.pair, dict.fromkeys(names))

    @functools.cached_property
    def _own(self) -> dict[str, Model]:
        return {model.name: model for model in self.pair.models}

    @functools.cached_property
    def _models(self) -> dict[str, Model]:
        """The models at the first size."""
        folder = self.pair.config_dir
        return {
            name: students.resized(model, self.size_of(name) or students.OWN, folder)
            for name, model in self._own.items()
        }

    @property
    def _continued(self) -> list[str]:
        """Methods that other ones start from."""
        return [name for name in self.starts if name in self.methods]

    def _seeded(self, name: str) -> bool:
        """Whether there is one of a model for each seed."""
        if name in self.teachers:
            return False
        return name in self.methods or self.seeds_from == FROM_LEARNER

    def all_trainings(self, name: str, most: int | None = None) -> list[Training]:
        """Return those of all points (or of the first ones), whether they are done or not."""
        if name not in self.methods:
            return self.trainings(name)
        return [self.training(p, seed) for p in self.points[name][:most] for seed in self.seeds]

    def _scores(self, name: str, index: int) -> list[Stage]:
        """Return the stages that score a model, as chosen, with the seed of this index."""
        tried = self.all_trainings(name)
        if name not in self.methods or len(self.points[name]) == 1:
            return self._scores_on_all(tried[index].name)

        def score_chosen(pair: Pair) -> dict[str, Any]:
            chosen = dataclasses.replace(self, pair=pair).trainings(name)[index]
            for stage in self._scores_on_all(chosen.name):
                stage.execute(pair)
            return {}

        needs = [training.name for training in tried]
        needs += [which.made_by for which in self.tests if which != MAIN]
        title = evaluate.name(f"{NAME}/{self.seeds[index]}/{name}")
        return [Stage(f"{title} as chosen", score_chosen, inputs=None, needs=tuple(needs))]

    def _scores_on_all(self, training: str) -> list[Stage]:
        needs = lenpen.needs(self.pair, training)
        scores = (stage for which in self.tests for stage in self.scores_of(training, which))
        found = [*scores, translators.stage(training, needs)]
        return list({stage.name: stage for stage in found}.values())


def read(pair: Pair) -> dict[str, Any] | None:
    """Return what the last comparison wrote to `FILE`.

    Returns:
        None where there is none, or where a model of it was made anew since, or removed.
    """
    content = files.read_json(pair.run_dir / NAME / FILE)
    made = content["made"].items() if content else ()
    same = all(state.fingerprint(pair.run_dir, stage) == known for stage, known in made)
    return content if same else None


def methods(pair: Pair, names: Iterable[str] | None) -> tuple[str, ...]:
    """Return what is to be compared; by default all that are trained without being named.

    Teachers and the learner are no methods.

    Raises:
        PipelineError: a name is none of them, or stands there twice.
    """
    teachers = {teacher for model in pair.models for teacher in model.teachers}
    known = [m.name for m in pair.models if m.name not in teachers and m.name not in BASES]
    usual = (model.name for model in pair.default_models if model.name in known)
    found = tuple(usual if names is None else names)
    if unknown := [name for name in found if name not in known]:
        raise PipelineError(f"{unknown[0]} is no method of {pair.name}: choose from {_list(known)}")
    if twice := [name for name in found if found.count(name) > 1]:
        raise PipelineError(f"the method {twice[0]} is named twice")
    return found


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"


def _needed(own: dict[str, Stage], wanted: Iterable[Stage], names: Iterable[str]) -> set[str]:
    """Return which of the pair's own stages are needed, by others or by themselves."""
    found: set[str] = set()
    left = [*names, *(need for stage in wanted for need in (*stage.needs, *stage.after))]
    while left:
        name = left.pop()
        if name in own and name not in found:
            found.add(name)
            left += own[name].needs
    return found
