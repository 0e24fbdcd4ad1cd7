"""Pool comparisons on several texts: the command line of ``scripts/pool.sh``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from pipeline import cli
from pipeline.engine import files
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import say
from pipeline.results import forest_plot, pooled

_TABLE = ("difference", "mean", "95 % interval", "texts", "above 0", "could have been seen")


def main(argv: Sequence[str] | None = None) -> int:
    """Pool the comparisons that the command line names; return the exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    named = dict(arguments.scores)
    if len(named) < len(arguments.scores):
        raise PipelineError("a text is named twice")
    scores = pooled.read(named, arguments.metric)
    seeds = {name: pooled.by_seed(scores, name, arguments.against) for name in arguments.methods}
    found = {name: pooled.pooled(differences) for name, differences in seeds.items()}
    arguments.output.mkdir(parents=True, exist_ok=True)
    table = _table(found, arguments.against)
    files.write_text(arguments.output / "pooled.md", table + "\n")
    files.write_text(arguments.output / "pooled.csv", _rows(found).to_csv(index=False))
    forest_plot.draw(
        found, seeds, arguments.against, arguments.metric.upper(), arguments.output / "forest"
    )
    say(f"\n{table}\n\npooled: {arguments.output}/pooled.md, pooled.csv, forest.png and forest.svg")


def _table(found: dict[str, pooled.Pooled], against: str) -> str:
    rows = [
        (
            f"{name} − {against}",
            f"{one.mean:+.2f}",
            f"[{one.low:.2f}, {one.high:.2f}]",
            len(one.by_text),
            f"{one.above} of {one.pairs}",
            f"{one.detectable:.2f}",
        )
        for name, one in found.items()
    ]
    return pd.DataFrame(rows, columns=_TABLE).to_markdown(index=False, disable_numparse=True)


def _rows(found: dict[str, pooled.Pooled]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "method": name,
            **{key: getattr(one, key) for key in ("mean", "low", "high", "detectable")},
            **{key: getattr(one, key) for key in ("above", "pairs")},
            **one.by_text,
        }
        for name, one in found.items()
    )


def _scores(word: str) -> tuple[str, Path]:
    name, separator, path = word.partition("=")
    if not (name and separator and path):
        raise argparse.ArgumentTypeError(f"{word}: give TEXT=FILE, as news=runs/news/scores.csv")
    return name, Path(path)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/pool.sh",
        description="Pool comparisons on several texts. Writes the mean difference between methods "
        "with an interval over texts, as a table and as a forest plot.",
    )
    parser.add_argument(
        "scores",
        type=_scores,
        nargs="+",
        metavar="TEXT=FILE",
        help="a text's name and the scores.csv of its comparison (runs/PAIR/compare/)",
    )
    parser.add_argument(
        "--methods", nargs="+", required=True, metavar="MODEL", help="methods to pool"
    )
    parser.add_argument(
        "--against", default="control", metavar="MODEL", help="baseline (default: control)"
    )
    parser.add_argument(
        "--metric", choices=("bleu", "chrf"), default="bleu", help="default: %(default)s"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write")
    return parser


if __name__ == "__main__":
    sys.exit(main())
