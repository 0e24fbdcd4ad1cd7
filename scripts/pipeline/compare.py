"""Compare methods over several seeds: the command line of ``scripts/compare.sh``."""

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
from pipeline.models import grid, plugin, settings, students
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair
from pipeline.models.training import Training
from pipeline.results import comet, evaluation_sets
from pipeline.results.evaluation_sets import MAIN, EvaluationSet
from pipeline.text import prepare

# The names that --tune accepts: each with its field of the grid, and the parser of its values.
TUNED = {
    "lr": ("rates", grid.rate),
    "weight": ("weights", grid.weight),
    "k": ("sizes", grid.size),
}

_EPILOG = """\
Runs all stages that the comparison needs, from the text on. Finished stages are skipped. Run the
same command again to continue an interrupted comparison. All seeds share one teacher. The models of
the first seed are the pair's own. The models of the other seeds and of a grid are in
runs/PAIR/compare/, with these files:

  compare.md, compare.json, compare.csv   the tables
  scores.csv                              each seed
  points.csv                              each beam
  tuning.csv                              each point of the grid
  differences, quality_over_speed         plots (.png, .svg)

The report page, runs/PAIR/report.html, gets a section. docs/compare.md explains the numbers.

--tune tries each combination for each method with each seed. The combination with the best mean
BLEU on the validation set is used. lr is the learning rate. weight is λ, for methods with a
teacher. k is for top-k methods; V is the whole vocabulary.

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
    """Return a comparison, after a check that all its stages can run.

    Args:
        pair: the language pair.
        methods: names of models; by default all default models except teachers and the learner.
        seeds: the number of seeds.
        seeds_from: the trainings that a seed changes; one of `comparison.SEEDS_FROM`.
        tune: the settings to try for each method.
        tests: names of test sets; by default the pair's test sets.
        comet_model: the model of COMET, as in `comet.check`; None: COMET is not computed.
        against: models of the tables that differences are taken to; by default control and KD, if
            they are compared.
        sizes: presets of students; all models except teachers are trained at each size. By default
            the sizes of the pair.

    Raises:
        PipelineError: a method, a test set, a preset or a model of the tables is unknown. A method
            cannot be trained at a size. COMET cannot be computed.
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
    # Imported here: the import of torch, fairseq and matplotlib takes seconds.
    plugin.load()
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
    with state.locked(pair.files.run_dir):
        schedule.run(pair.files, stages, slots, title=NAME)


def _tests(pair: Pair, names: Iterable[str]) -> tuple[EvaluationSet, ...]:
    names = list(dict.fromkeys(names))
    settings.check_tests(names, "--test")
    found = tuple(evaluation_sets.named(pair, name) for name in names)
    for which in found:
        if which != MAIN:
            prepare.test_inputs(pair, which.title(pair))  # raises before any work is done
    return found


def _students(found: Comparison, names: Sequence[str]) -> tuple[str, ...]:
    pair = found.pair
    sizes = students.check_names(names or pair.students, pair.files.config_dir, "--students")
    models = {model.name: model for model in pair.models}
    for name in sizes:
        if name == students.OWN:
            continue
        students.check_kind(models, found.methods, name, pair.files.config_dir)
        kept = students.layers(name, pair.files.config_dir) is not None
        students.check_starts(models, found.methods, found.teachers, kept=kept)
        if kept:
            _check_layers_are_there(pair, [models[method] for method in found.methods], name)
        else:
            preset = students.settings(name, pair.files.config_dir)
            students.check_dictionaries(preset, pair.joint_dictionary, f"--students {name}")
    return sizes


def _check_layers_are_there(pair: Pair, methods: Iterable[Model], preset: str) -> None:
    for model in methods:
        try:
            Training.of(students.resized(model, preset, pair.files.config_dir)).resolved(pair)
        except PipelineError as error:
            raise PipelineError(f"--students {preset}: {error}") from None


def baselines_of(found: Comparison, names: Iterable[str]) -> tuple[str, ...]:
    """Return the models that ``--against`` names, each once.

    Raises:
        PipelineError: a model is not in the tables.
    """
    names = tuple(dict.fromkeys(names))
    if unknown := [name for name in names if name not in found.shown]:
        shown = ", ".join(found.shown)
        raise PipelineError(f"--against {unknown[0]}: not among the models of the tables, {shown}")
    return names


def grid_of(words: Sequence[str]) -> Grid:
    """Return the grid that the words of ``--tune`` describe.

    Raises:
        PipelineError: a word is not NAME=VALUE,…, or a value is invalid.
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
        description="Compare methods. Each method is trained with several seeds, and scored with "
        "intervals over seeds and sentences. --tune tunes all methods on the same grid.",
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
        help="models of the pair (default: the models that the pipeline trains by default)",
    )
    parser.add_argument(
        "--students",
        nargs="+",
        default=[],
        metavar="NAME",
        help="train all models except teachers at each of these sizes. A size is a preset of "
        f"configs/students/, or {students.OWN} for the size of the pair's configs. Methods that "
        "begin with a teacher's layers, such as the demo's, need a preset of layers; other methods "
        f"need a preset of a shape (default: students in pair.yaml, or {students.OWN})",
    )
    parser.add_argument(
        "--seeds", type=cli.from_one, default=3, metavar="N", help="number of seeds (default: 3)"
    )
    parser.add_argument(
        "--seeds-from",
        choices=comparison.SEEDS_FROM,
        default=comparison.FROM_LEARNER,
        help="trainings that a seed changes: learner is the training of the student and its "
        "fine-tuning (default), finetune is the fine-tuning only, from one trained student",
    )
    parser.add_argument(
        "--tune",
        nargs="+",
        default=[],
        metavar="NAME=VALUES",
        help="settings to try: 'lr=1e-4,3e-4;weight=0.5,0.9;k=8,16' (default: only the config's)",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="MODEL",
        help="models of the tables that differences are taken to; the plot shows the differences "
        "to the first of them (default: control and kd, if they are compared)",
    )
    parser.add_argument(
        "--test",
        nargs="+",
        default=[],
        metavar="NAME",
        help="test sets, each scored separately (default: text.test of pair.yaml, or test); with "
        "--data the files NAME.SRC and NAME.TGT must be beside train",
    )
    parser.add_argument(
        "--comet",
        metavar="MODEL",
        help="also score with COMET: Unbabel/wmt22-comet-da, or the path of a .ckpt; needs "
        "unbabel-comet, in a separate environment (docs/compare.md)",
    )
    cli.add_redo_option(parser)
    cli.add_run_options(parser, quick="train a few steps; the run is named PAIR-quick")
    cli.add_text_options(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
