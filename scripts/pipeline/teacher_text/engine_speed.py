"""How fast the engines of stage `translate` are on a pair's text, and whether they agree."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline import cli, files, settings
from pipeline.errors import PipelineError
from pipeline.progress import bar
from pipeline.settings import Pair
from pipeline.teacher_text import engines, shards, spec
from pipeline.teacher_text.elsewhere import TRAIN
from pipeline.teacher_text.recipe import Recipe
from pipeline.teacher_text.source import Source
from pipeline.teacher_text.translating import Translation

ENGINES = (("ctranslate2", "float32"), ("ctranslate2", "int8"), ("fairseq-generate", "float32"))
"""With the precision of CTranslate2; the last one is what the others are compared with."""

_EPILOG = """\
Each engine runs as the stage runs it, on the same sentences of the training text, and on a single
one: the difference is its speed, the single one its start. CPU time is of all its threads, so that
other work on the machine counts little; – says that the sentences were too few to tell. Needs the
stages binarize and the teacher's.

example:
  scripts/engines.sh demo --sentences 400 --threads 1"""


@dataclass(frozen=True)
class Measured:
    """What one run of an engine took, in seconds, and what it said."""

    wall: float
    cpu: float
    best: list[str]


def compare(pair: Pair, translator: str, sentences: int) -> pd.DataFrame:
    """Run every engine.

    Args:
        pair: binarized, with a teacher.
        translator: a model of the pair's.
        sentences: how many of the training source's are translated.

    Returns:
        A row for each: sentences per second of CPU and of wall time, seconds of CPU time to start,
        and how many of its best translations are those of the last one.

    Raises:
        PipelineError: a stage is missing, or an engine failed.
    """
    with tempfile.TemporaryDirectory(prefix="ka-engines-") as folder:
        return _compare(pair, translator, _source(pair, translator, sentences, Path(folder)))


def _compare(pair: Pair, translator: str, source: Source) -> pd.DataFrame:
    rows, said = [], []
    for engine, quantization in bar(ENGINES, "engines", unit=" engines"):
        recipe = replace(Recipe.load(pair.translate), engine=engine, quantization=quantization)
        start, whole = (
            _measured(pair, translator, source, count, recipe) for count in (1, len(source))
        )
        said.append(whole.best)
        count = len(source) - 1
        rows.append(
            {
                "engine": engine + (f", {quantization}" if engine == "ctranslate2" else ""),
                "sentences/s of CPU time": _rate(count, whole.cpu - start.cpu),
                "sentences/s": _rate(count, whole.wall - start.wall),
                "start, s of CPU time": round(start.cpu, 1),
            }
        )
    same = [sum(map(str.__eq__, best, said[-1])) for best in said]
    return pd.DataFrame(rows).assign(
        **{f"best as {ENGINES[-1][0]}'s": [f"{n} of {len(source)}" for n in same]}
    )


def _rate(count: int, seconds: float) -> float | str:
    """A dash where a run of many sentences took no longer than that of a single one."""
    return round(count / seconds, 1) if seconds > 0 else "–"


def _source(pair: Pair, translator: str, sentences: int, folder: Path) -> Source:
    (source,) = (s for s in Translation(translator).sources(pair) if s.name == TRAIN)
    missing = [p for p in (source.subwords, pair.model(translator)) if not p.exists()]
    if missing:
        raise PipelineError(
            f"{missing[0]} is not there: scripts/pipeline.sh {pair.name} binarize {translator} "
            "comes first"
        )
    there = len(source)
    if not 2 <= sentences <= there:
        raise PipelineError(f"--sentences {sentences}: the text has {there}; give 2 or more")
    # Spread over the text: its start may be of one kind.
    step = there // sentences
    lines = files.read_lines(source.subwords)[::step][:sentences]
    files.write_lines(folder / "subwords", lines)
    return Source(TRAIN, source.text, folder / "subwords", folder)


def _measured(pair: Pair, translator: str, source: Source, count: int, recipe: Recipe) -> Measured:
    folder = source.folder
    shard = shards.Shard(folder / "00000.tsv", 0, count)
    model = pair.model(translator)
    engine = engines.choose(pair, [model], folder / "converted", recipe, sampled=False)
    scratch = folder / "scratch"
    files.remove(scratch)
    scratch.mkdir()
    before = os.times()
    quiet = engines.Report(lambda count: None, lambda path: None)
    engine.translate(pair, [(source, [shard])], folder / "log", scratch, quiet)
    after = os.times()
    cpu = sum(getattr(after, k) - getattr(before, k) for k in ("children_user", "children_system"))
    best = [found[0].text if found else "" for found in shards.read(shard)]
    return Measured(after.elapsed - before.elapsed, cpu, best)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare what the command line names; return the exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    pair = cli.pair_of(arguments, arguments.pair)
    if arguments.translator not in pair.titles:
        known = ", ".join(pair.titles)
        raise PipelineError(f"no model {arguments.translator}: choose from {known}")
    (slot, *_) = cli.slots(arguments, pair, [])
    table = compare(replace(pair, slot=slot), arguments.translator, arguments.sentences)
    print(table.to_markdown(index=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/engines.sh",
        description="Speed and agreement of the engines that a teacher translates with.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pair", nargs="?", metavar="PAIR", help=", ".join(settings.names()))
    parser.add_argument(
        "--sentences",
        type=cli.from_one,
        default=400,
        metavar="N",
        help="of the training text (default: 400)",
    )
    parser.add_argument(
        "--translator",
        default=spec.TRANSLATOR,
        metavar="MODEL",
        help=f"who translates (default: {spec.TRANSLATOR})",
    )
    cli.add_text_options(parser)
    cli.add_run_options(parser, quick="of the run PAIR-quick")
    return parser


if __name__ == "__main__":
    sys.exit(main())
