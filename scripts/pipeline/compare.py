"""Methods compared with seeds: the command line of ``scripts/compare.sh``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from pipeline import cli, comparison
from pipeline.comparison import NAME, Comparison, Grid
from pipeline.engine import schedule, state
from pipeline.engine.errors import PipelineError
from pipeline.models import grid, settings, students
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair
from pipeline.models.training import Training
from pipeline.results import comet, evaluation_sets
from pipeline.results.evaluation_sets import MAIN, EvaluationSet
from pipeline.text import prepare

# What --tune can name: the field of the grid, and how a value of it is read.
TUNED = {
    "lr": ("rates", grid.rate),
    "weight": ("weights", grid.weight),
    "k": ("sizes", grid.size),
}

_EPILOG = """\
Runs all that it takes, from the text on; what is done is skipped, and the same command goes on
with what was cut off. There is one teacher. The first seed's models are the pair's own, those of
the other seeds and of a grid are kept under runs/PAIR/compare/, with the tables: compare.md,
compare.json, compare.csv, scores.csv (each seed), points.csv (each beam), tuning.csv (each point
of the grid), differences and quality_over_speed (.png, .svg). The report page,
runs/PAIR/report.html, gets a section. docs/compare.md explains the numbers.

--tune tries each combination for each method with each seed, and takes the one with the best mean
of BLEU on the validation set: lr is the learning rate, weight is λ (of methods with a teacher), k
is for top-k methods (V: the whole vocabulary).

examples:
  scripts/compare.sh demo --seeds 3
  scripts/compare.sh demo --students layers_1_1 layers_2_1 --methods control kd --seeds 3
  scripts/compare.sh demo --methods control kd ka --tune 'lr=0.0015,0.003,0.006;weight=0.5,0.9'
  scripts/compare.sh --data ~/corpus --src de --tgt en --config configs/demo --test test news"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison that the command line describes; return the exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _compare(arguments))


def planned(
    pair: Pair,
    *,
    methods: Iterable[str] | None = None,
    seeds: int,
    seeds_from: str = comparison.FROM_LEARNER,
    tune: Grid | None = None,
    tests: Iterable[str] = (),
    comet_model: str | None = None,
    against: Iterable[str] = (),
    sizes: Sequence[str] = (),
) -> Comparison:
    """Return a comparison, when it is sure that it can be begun.

    Args:
        pair: whose models they are.
        methods: names of models; by default all but teachers and the learner.
        seeds: how many.
        seeds_from: what a seed covers; one of `comparison.SEEDS_FROM`.
        tune: what is tried for each method.
        tests: names of test sets; by default those of the pair.
        comet_model: what COMET is computed with, as in `comet.check`; by default it is not.
        against: models of the tables that differences are taken to; by default control and KD, as
            far as they are compared.
        sizes: presets of students, at which all but teachers are trained; by default those of the
            pair.

    Raises:
        PipelineError: there is no such method, test set, student or model of the tables, a method
            cannot be trained at a size, or there is nothing to compute COMET with.
    """
    if comet_model is not None:
        comet.check(comet_model)
    chosen = comparison.methods(pair, methods)
    if not chosen:
        raise PipelineError(f"{pair.name} has no method to compare: add one to its models")
    sets = _tests(pair, tests or pair.tests)
    found = Comparison(pair, chosen, seeds, seeds_from, tune or Grid(), sets, comet_model)
    found = replace(found, students=_students(found, sizes))
    return replace(found, against=baselines_of(found, against))


def report(found: Comparison) -> dict[str, Any]:
    """Write the tables; see `comparison_report.build`."""
    # Not above: it takes torch and matplotlib, for seconds.
    from pipeline.results import comparison_report

    return comparison_report.build(found)


def comparison_of(arguments: argparse.Namespace) -> Comparison:
    """Return the comparison that the command line describes.

    Raises:
        PipelineError: see `planned` and `cli.pair_of`.
    """
    return planned(
        cli.pair_of(arguments, arguments.pair),
        methods=arguments.methods,
        seeds=arguments.seeds,
        seeds_from=arguments.seeds_from,
        tune=grid_of(arguments.tune),
        tests=arguments.test,
        comet_model=arguments.comet,
        against=arguments.against,
        sizes=arguments.students,
    )


def _compare(arguments: argparse.Namespace) -> None:
    found = comparison_of(arguments)
    pair, stages = found.pair, found.stages(report)
    if arguments.force:
        stages = [replace(stage, cheap=True) for stage in stages]
    trained = [Training.of(model) for model in pair.models if model.name in found.shown]
    slots = cli.slots(arguments, pair, trained)
    with state.locked(pair.run_dir):
        schedule.run(pair, stages, slots, title=NAME)


def _tests(pair: Pair, names: Iterable[str]) -> tuple[EvaluationSet, ...]:
    names = list(dict.fromkeys(names))
    settings.check_tests(names, "--test")
    found = tuple(evaluation_sets.named(pair, name) for name in names)
    for which in found:
        if which != MAIN:
            prepare.test_inputs(pair, which.title(pair))  # complains before any work is done
    return found


def _students(found: Comparison, names: Sequence[str]) -> tuple[str, ...]:
    pair = found.pair
    sizes = students.check_names(names or pair.students, pair.config_dir, "--students")
    models = {model.name: model for model in pair.models}
    for name in sizes:
        if name == students.OWN:
            continue
        students.check_kind(models, found.methods, name, pair.config_dir)
        kept = students.layers(name, pair.config_dir) is not None
        students.check_starts(models, found.methods, found.teachers, kept=kept)
        if kept:
            _check_layers_are_there(pair, [models[method] for method in found.methods], name)
        else:
            preset = students.settings(name, pair.config_dir)
            students.check_dictionaries(preset, pair.joint_dictionary, f"--students {name}")
    return sizes


def _check_layers_are_there(pair: Pair, methods: Iterable[Model], preset: str) -> None:
    for model in methods:
        try:
            Training.of(students.resized(model, preset, pair.config_dir)).resolved(pair)
        except PipelineError as error:
            raise PipelineError(f"--students {preset}: {error}") from None


def baselines_of(found: Comparison, names: Iterable[str]) -> tuple[str, ...]:
    """Return the models that ``--against`` names, each once.

    Raises:
        PipelineError: one of them is not in the tables.
    """
    names = tuple(dict.fromkeys(names))
    if unknown := [name for name in names if name not in found.shown]:
        shown = ", ".join(found.shown)
        raise PipelineError(f"--against {unknown[0]}: not among the models of the tables, {shown}")
    return names


def grid_of(words: Sequence[str]) -> Grid:
    """Read what ``--tune`` is given.

    Raises:
        PipelineError: it is not NAME=VALUE,…, or a value is none.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for word in (part.strip() for text in words for part in text.split(";") if part.strip()):
        name, equals, values = word.partition("=")
        if not equals or name not in TUNED:
            raise PipelineError(f"--tune {word}: give {' or '.join(f'{key}=…' for key in TUNED)}")
        field, read = TUNED[name]
        try:
            found[field] = tuple(dict.fromkeys(grid.listed(read)(values)))
        except argparse.ArgumentTypeError as error:
            raise PipelineError(f"--tune {word}: {error}") from None
    return Grid(**found)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/compare.sh",
        description="Compare methods: each is trained with several seeds, tuned on the same grid "
        "where one is given, and scored with intervals over seeds and sentences.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "pair", nargs="?", metavar="PAIR", help=f"{', '.join(settings.names())}; or --data"
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="METHOD",
        help="models of the pair (default: those that the pipeline trains by default)",
    )
    parser.add_argument(
        "--students",
        nargs="+",
        default=[],
        metavar="NAME",
        help="train all but teachers at each of these sizes: presets of configs/students/, of "
        "layers for methods that begin with a teacher's layers, as the demo's, and of a shape for "
        f"others; or {students.OWN} for the one of the pair's configs (default: students in "
        f"pair.yaml, or {students.OWN})",
    )
    parser.add_argument(
        "--seeds", type=cli.from_one, default=3, metavar="N", help="how many (default: 3)"
    )
    parser.add_argument(
        "--seeds-from",
        choices=comparison.SEEDS_FROM,
        default=comparison.FROM_LEARNER,
        help="what a seed covers: the learner's own training and the fine-tuning (default), or the "
        "fine-tuning alone, from one learner",
    )
    parser.add_argument(
        "--tune",
        nargs="+",
        default=[],
        metavar="NAME=VALUES",
        help="settings to try: 'lr=1e-4,3e-4;weight=0.5,0.9;k=8,16' (default: the config's alone)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models of the tables that differences are taken to; the plot shows those to the "
        "first (default: control and kd, as far as they are compared)",
    )
    parser.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="NAME",
        help="test sets to score, each for itself (default: text.test of pair.yaml, or test); "
        "with --data NAME.SRC and NAME.TGT lie beside train",
    )
    parser.add_argument(
        "--comet",
        metavar="MODEL",
        help="score with COMET too: Unbabel/wmt22-comet-da, or the path of a .ckpt; takes "
        "unbabel-comet, in an environment of its own (docs/compare.md)",
    )
    cli.add_redo_option(parser)
    cli.add_run_options(parser, quick="a few steps on little text; the run is named PAIR-quick")
    cli.add_text_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
