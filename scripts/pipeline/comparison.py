"""The stages of a comparison of methods: trainings with seeds and settings, scores and tables."""

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
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.plan import plan
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
"""The stage that measures each model of a comparison at each beam."""
SEED = "common.seed"
FROM_LEARNER, FROM_FINETUNE = SEEDS_FROM = ("learner", "finetune")
"""What a seed changes: the student's training and the fine-tuning, or only the fine-tuning."""


@dataclass(frozen=True)
class Grid:
    """The settings to try for each method; an empty field takes the setting of the config."""

    rates: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    sizes: tuple[int | None, ...] = ()

    def points(self, pair: Pair, model: Model) -> list[Point]:
        """Return the points for a method.

        λ varies only for methods with a teacher, k only for top-k methods with a teacher.
        """
        settings = Training.of(model).resolved(pair)
        topk = settings["criterion._name"] == "topk_kl" or settings.get("criterion.top_k")
        weights = self.weights if model.teacher else ()
        sizes = self.sizes if model.teacher and topk else ()
        values = itertools.product(weights or (None,), sizes or (None,), self.rates or (None,))
        return [Point(model, *point) for point in values]


@dataclass(frozen=True)
class Comparison:
    """The methods to compare, with seeds, settings, test sets and sizes.

    Attributes:
        pair: the language pair.
        methods: names of models, in the order of the tables.
        count: the number of seeds; the first is the seed of the configs.
        seeds_from: one of `SEEDS_FROM`.
        grid: the settings to try, the same for each method.
        tests: the test sets.
        comet: COMET's model, as in `comet.check`; None: COMET is not computed.
        against: models of the tables that differences are taken to; empty: the models of
            `tables.BASELINES` that are compared.
        students: the sizes of all models except teachers: presets, or `students.OWN`. The other
            members describe the trainings of the first size; `sizes` has a comparison of each size.
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
        """A comparison for each size."""
        return [dataclasses.replace(self, students=(student,)) for student in self.students]

    @property
    def size(self) -> str:
        """The name of the size in tables; empty for the pair's own size."""
        return "" if self.students[0] == students.OWN else self.students[0]

    def size_of(self, name: str) -> str:
        """Return the name of a model's size in tables; empty if the model keeps its own size.

        Teachers keep their size. If the size is a preset of layers, models that take over no
        layers, such as a learner, keep their size too.
        """
        if not self.size or name in self.teachers:
            return ""
        kept = students.layers(self.size, self.pair.files.config_dir) is not None
        return "" if kept and not students.takes_over(self._own, name) else self.size

    @functools.cached_property
    def seeds(self) -> list[int]:
        """The seeds."""
        own = (Training.of(self._models[name]) for name in self.methods)
        first = min(int(training.resolved(self.pair)[SEED]) for training in own)
        return list(range(first, first + self.count))

    @functools.cached_property
    def points(self) -> dict[str, list[Point]]:
        """The points to try, by method."""
        return {name: self.grid.points(self.pair, self._models[name]) for name in self.methods}

    @property
    def teachers(self) -> list[str]:
        """The teachers of the methods, and the teacher that the gap is measured to."""
        taught = {BASES[0]}.union(*(self._own[name].teachers for name in self.methods))
        return [name for name in self._own if name in taught]

    @property
    def starts(self) -> list[str]:
        """The models that the methods start from, and the models that these start from."""
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
        """Return the training of a point of the grid with a seed.

        With the config's own size, settings and seed, this is the pair's own training.
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
        """Return the trainings of a model of the tables, in the order of the seeds.

        Returns:
            A training for each seed; a single training if the seeds do not change the model. For a
            tuned method, the trainings with the chosen settings: all its trainings must be done.
        """
        if name in self.teachers:
            return [Training.of(self._own[name])]
        if not self._seeded(name):
            return [self.training(Point(self._models[name]), self.seeds[0])]
        point = self.choose(name) if name in self.methods else Point(self._models[name])
        return [self.training(point, seed) for seed in self.seeds]

    def choose(self, method: str) -> Point:
        """Return the point with the best mean BLEU over the seeds, on validation.

        If points are equal, the first is chosen. A single point needs no finished trainings.
        """
        tried = self.points[method]
        if len(tried) == 1:
            return tried[0]
        return max(tried, key=lambda point: statistics.fmean(self.valid_bleu(point)))

    def valid_bleu(self, point: Point) -> list[float]:
        """Return the validation BLEU of a point's best checkpoint, for each seed."""
        return [grid.best_bleu(self.pair, self.training(point, seed)) for seed in self.seeds]

    def stages(self, report: Callable[[Comparison], dict[str, Any]]) -> list[Stage]:
        """Return all stages: trainings, scores, tables, and the stages that these need.

        Finished stages are among them: a stage that was made with other settings is refused.

        Args:
            report: writes the tables, after all other stages.
        """
        made = {t.name: t for one in self.sizes for t in one.made}
        scores = {stage.name: stage for one in self.sizes for stage in one.scores()}
        points = speed.stage(
            self.pair,
            tuple(scores),
            name=POINTS,
            models=lambda: self.exported,
            timed=lambda: self.timed,
            tests=self.tests,
        )
        last = Stage(NAME, lambda slot: report(self), inputs=None, after=(*scores, POINTS))
        trainings = (training.stage(self.pair) for training in made.values())
        further = (which.stage(self.pair) for which in self.tests if which != MAIN)
        table = stages.table(self.pair)
        page = table.pop("report")
        for stage in (*trainings, *further, *scores.values(), points, last):
            table.setdefault(stage.name, stage)
        targets = [*made, *scores, POINTS, NAME]
        if MAIN in self.tests:  # the report page has a section for these tables
            table[page.name] = dataclasses.replace(page, after=(*page.after, NAME))
            targets.append(page.name)
        return plan(table, targets, done=lambda name: False)

    @property
    def made(self) -> list[Training]:
        """All trainings of one size."""
        # If a method starts from another method, the other is needed with its config's settings.
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
        """The chosen trainings of all sizes whose models have an export folder."""
        return self._exported(None)

    @property
    def timed(self) -> list[str]:
        """The exported trainings of the first seed: models of one shape have the same speed."""
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
        folder = self.pair.files.config_dir
        return {
            name: students.resized(model, self.size_of(name) or students.OWN, folder)
            for name, model in self._own.items()
        }

    @property
    def _continued(self) -> list[str]:
        """The methods that other methods start from."""
        return [name for name in self.starts if name in self.methods]

    def _seeded(self, name: str) -> bool:
        """Return whether a model is trained with each seed."""
        if name in self.teachers:
            return False
        return name in self.methods or self.seeds_from == FROM_LEARNER

    def all_trainings(self, name: str, most: int | None = None) -> list[Training]:
        """Return the trainings of all points, or of the first `most` points, done or not."""
        if name not in self.methods:
            return self.trainings(name)
        return [self.training(p, seed) for p in self.points[name][:most] for seed in self.seeds]

    def _scores(self, name: str, index: int) -> list[Stage]:
        """Return the stages that score a model's chosen training with the seed of this index."""
        tried = self.all_trainings(name)
        if name not in self.methods or len(self.points[name]) == 1:
            return self._scores_on_all(tried[index].name)

        def score_chosen(slot: Slot) -> dict[str, Any]:
            for stage in self._scores_on_all(self.trainings(name)[index].name):
                stage.execute(self.pair.files, slot)
            return {}

        needs = [training.name for training in tried]
        needs += [which.made_by for which in self.tests if which != MAIN]
        title = evaluate.name(f"{NAME}/{self.seeds[index]}/{name}")
        return [Stage(f"{title} as chosen", score_chosen, inputs=None, needs=tuple(needs))]

    def _scores_on_all(self, training: str) -> list[Stage]:
        found = lenpen.stages(self.pair, [training])
        for which in self.tests:
            found.append(evaluate.stage(self.pair, training, which))
            if self.comet is not None:
                found.append(comet.stage(self.pair, training, which, self.comet))
        return [*found, translators.stage(self.pair, training)]


def read(pair: Pair) -> dict[str, Any] | None:
    """Return the content of `FILE`, which the last comparison wrote.

    Returns:
        The content. None if there is no file, or if one of its models was retrained or removed
        since.
    """
    content = files.read_json(pair.files.run_dir / NAME / FILE)
    made = content["made"].items() if content else ()
    same = all(state.fingerprint(pair.files.run_dir, stage) == known for stage, known in made)
    return content if same else None


def methods(pair: Pair, names: Iterable[str] | None) -> tuple[str, ...]:
    """Return the methods to compare; by default all methods that are trained by default.

    Teachers and the learner are not methods.

    Raises:
        PipelineError: a name is not a method, or is given twice.
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
