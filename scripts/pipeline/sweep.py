"""Tune λ, k and the learning rate on the validation set; write a table and Fig. 4a."""

from __future__ import annotations

import argparse
import functools
import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from pipeline import cli, stages
from pipeline.engine import files, schedule, state
from pipeline.engine.errors import PipelineError
from pipeline.engine.plan import plan
from pipeline.engine.stage import Stage
from pipeline.models import grid, plugin, settings
from pipeline.models.grid import Point
from pipeline.models.model_list import Model
from pipeline.models.settings import Pair

# The models that the paper tunes.
MODELS = ("kd", "ka")
WEIGHTS = (0.1, 0.3, 0.5, 0.7, 0.9)
SIZES = (2, 4, 8, 16, grid.WHOLE)
FOLDER = "sweep"

_EPILOG = """\
Each point is a fine-tuning of the pair's student (the stage learner), kept in runs/PAIR/sweep/.
Finished points are skipped, interrupted points continue. The score is the best BLEU on the
validation set. What the points need and is not done runs first: the text, the teacher, the student.

The sweep writes results.csv after each point. At the end it writes best.csv, best.png and best.svg
(Fig. 4a). With `--top-k config` there is no figure, and best.csv has the best point of each model.
A model without a teacher has no λ and no k.

examples:
  scripts/sweep.sh iwslt15_th_en --criterions ka --weights 0.5
  scripts/sweep.sh demo --criterions control,kd,ka --rates 0.003,0.006 --top-k config"""


def planned(pair: Pair, points: Sequence[Point], *, force: bool = False) -> list[Stage]:
    """Return the trainings of the points, and the stages that they need and that are not done.

    Args:
        pair: the language pair.
        points: the points to try.
        force: redo points that were made with other settings.
    """
    own = (point.training(FOLDER).stage(pair) for point in points)
    tried = {stage.name: replace(stage, cheap=force) for stage in own}
    done = functools.partial(state.is_done, pair.files.run_dir)
    return plan(stages.table(pair) | tried, tried, done)


def _write_results(pair: Pair, points: Sequence[Point]) -> None:
    """Write a row for each finished point. A cell is empty if the config's setting was used."""
    rows = [
        {
            "model": point.model.name,
            "criterion": training.resolved(pair)["criterion._name"],
            "learning_rate": point.rate,
            "transfer_weight": point.weight,
            "top_k": point.size,
            "bleu": grid.best_bleu(pair, training),
        }
        for point in points
        if state.is_done(pair.files.run_dir, (training := point.training(FOLDER)).name)
    ]
    if rows:
        files.write_text(results_file(pair), pd.DataFrame(rows).to_csv(index=False))


def results_file(pair: Pair) -> Path:
    """Return the path of the table of all points."""
    return pair.files.run_dir / FOLDER / "results.csv"


def draw(pair: Pair) -> pd.DataFrame:
    """Draw Fig. 4a if k was varied, and return the best rows.

    Returns:
        The best row of each criterion at each k. If k was left to the configs, the best row of
        each model.
    """
    plugin.load()
    from ka_fairseq.analysis import sweep

    path = results_file(pair).with_name("best")
    results = pd.read_csv(results_file(pair))
    if results.top_k.isna().any():
        best = results.loc[results.groupby("model", sort=False).bleu.idxmax()]
        files.write_text(path.with_suffix(".csv"), best.to_csv(index=False))
        return best.dropna(axis="columns", how="all")
    results = sweep.read_results(results_file(pair))
    best = sweep.sweep(results)
    files.write_text(path.with_suffix(".csv"), best.to_csv(index=False))
    sweep.plot_sweep(best, path, others=results)
    return best


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sweep that the command line describes; return the exit code."""
    arguments = parser().parse_args(argv)
    return cli.run(lambda: _sweep(arguments))


def _sweep(arguments: argparse.Namespace) -> None:
    pair = cli.load_pair(arguments.pair, arguments)
    points = list(points_of(pair, arguments))
    chosen = planned(pair, points, force=arguments.force)
    names = {stage.name for stage in chosen}
    trainings = [*stages.trainings(pair), *(point.training(FOLDER) for point in points)]
    slots = cli.slots(arguments, pair, [t for t in trainings if t.name in names])
    on_done = functools.partial(_write_results, pair, points)
    with state.locked(pair.files.run_dir):
        schedule.run(pair.files, chosen, slots, title=FOLDER, on_done=on_done)
        best = draw(pair)
    print(f"\n{best.to_markdown(index=False)}\n\nsweep: {results_file(pair)}")


def fine_tunings(pair: Pair, names: Sequence[str] | None) -> list[Model]:
    """Return the models to tune; by default those of `MODELS` that the pair has."""
    tuned = {model.name: model for model in pair.models if model.start}
    if unknown := [name for name in names or () if name not in tuned]:
        raise PipelineError(
            f"--criterions {unknown[0]} is no fine-tuning: choose from {', '.join(tuned)}"
        )
    return [tuned[name] for name in names or MODELS if name in tuned]


def points_of(pair: Pair, arguments: argparse.Namespace) -> Iterator[Point]:
    """Yield every combination of the settings. Models without a teacher have no λ and no k."""
    for model in fine_tunings(pair, arguments.criterions):
        weights, sizes = arguments.weights, arguments.top_k
        if not model.teacher:
            weights, sizes = (None,), (None,)
        for values in itertools.product(weights, sizes, arguments.rates):
            yield Point(model, *values)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="scripts/sweep.sh",
        description="Tune λ, k and the learning rate of fine-tunings on the validation set.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pair", metavar="PAIR", help=", ".join(settings.names()))
    parser.add_argument(
        "--criterions",
        type=grid.listed(str),
        metavar="LIST",
        help=f"fine-tunings to tune (default: {','.join(MODELS)})",
    )
    parser.add_argument(
        "--weights",
        type=grid.listed(grid.weight),
        default=WEIGHTS,
        metavar="LIST",
        help=f"λ (default: {','.join(map(str, WEIGHTS))})",
    )
    parser.add_argument(
        "--top-k",
        type=grid.listed(grid.size),
        default=SIZES,
        metavar="LIST",
        help="k; V is the whole vocabulary, config the k of each config (default: 2,4,8,16,V)",
    )
    parser.add_argument(
        "--rates",
        type=grid.listed(grid.rate),
        default=(None,),
        metavar="LIST",
        help="learning rates (default: the config's)",
    )
    cli.add_redo_option(parser)
    cli.add_run_options(parser, quick="tune the run PAIR-quick")
    return parser


if __name__ == "__main__":
    sys.exit(main())
