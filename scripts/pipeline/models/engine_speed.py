"""Measure the speed and the agreement of stage `translate`'s engines, on a pair's text."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from pipeline import cli
from pipeline.engine import files
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar
from pipeline.models import distilling, settings
from pipeline.models import training_text as spec
from pipeline.models.external_translations import TRAIN
from pipeline.models.settings import Pair
from pipeline.models.translate_settings import FAIRSEQ, Recipe

ENGINES = (("ctranslate2", "float32"), ("ctranslate2", "int8"), (FAIRSEQ, "float32"))
"""Engines and the precision of CTranslate2; the others are compared with the last engine."""

_EPILOG = """\
Each engine runs as in the stage, on the same sentences of the training text, and on a single
sentence. The single sentence measures the start; the difference measures the speed. CPU time covers
all threads of the engine, so other work on the machine changes it little. – means too few sentences
for a measurement. The stages binarize and teacher (or MODEL) must be done first.

example:
  scripts/engines.sh demo --sentences 400 --threads 1"""


@dataclass(frozen=True)
class Measured:
    """The times of one run of an engine, in seconds, and its best translations."""

    wall: float
    cpu: float
    best: list[str]


def compare(pair: Pair, slot: Slot, translator: str, sentences: int) -> pd.DataFrame:
    """Run every engine, and return a table.

    Args:
        pair: the language pair; its text must be binarized and the translator trained.
        slot: the part of this machine that the engines may use.
        translator: the model of the pair that translates.
        sentences: the number of sentences to translate, from the training source.

    Returns:
        A row for each engine: sentences per second of CPU and of wall time, seconds of CPU time to
        start, and the number of best translations that equal the last engine's.

    Raises:
        PipelineError: a stage is missing, or an engine failed.
    """
    with tempfile.TemporaryDirectory(prefix="ka-engines-") as folder:
        lines = _lines(pair, translator, sentences)
        return _compare(pair, slot, translator, lines, Path(folder))


def _compare(
    pair: Pair, slot: Slot, translator: str, lines: list[str], folder: Path
) -> pd.DataFrame:
    rows, said = [], []
    for engine, quantization in bar(ENGINES, "engines", unit=" engines"):
        recipe = replace(pair.translate, engine=engine, quantization=quantization)
        start, whole = (
            _measured(pair, slot, translator, lines[:count], recipe, folder)
            for count in (1, len(lines))
        )
        said.append(whole.best)
        count = len(lines) - 1
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
        **{f"best as {ENGINES[-1][0]}'s": [f"{n} of {len(lines)}" for n in same]}
    )


def _rate(count: int, seconds: float) -> float | str:
    """Return the rate; a dash if many sentences took no longer than a single sentence."""
    return round(count / seconds, 1) if seconds > 0 else "–"


def _lines(pair: Pair, translator: str, sentences: int) -> list[str]:
    """Return sentences in subwords, spread over the text, as its start may be untypical."""
    path = pair.files.bin_dir / "segmented" / f"{TRAIN}.{pair.source_lang}"
    missing = [p for p in (path, pair.files.model(translator)) if not p.exists()]
    if missing:
        raise PipelineError(
            f"{missing[0]} is missing: run scripts/pipeline.sh {pair.name} binarize {translator} "
            "first"
        )
    lines = files.read_lines(path)
    if not 2 <= sentences <= len(lines):
        raise PipelineError(f"--sentences {sentences}: the text has {len(lines)}; give 2 or more")
    return lines[:: len(lines) // sentences][:sentences]


def _measured(
    pair: Pair, slot: Slot, translator: str, lines: list[str], recipe: Recipe, folder: Path
) -> Measured:
    """Translate sentences and measure the run, on raw text (``--dataset-impl raw``)."""
    data, translations = folder / "data", folder / "translations"
    for path in (data, translations):
        files.remove(path)
    source, target = pair.languages
    files.write_lines(data / f"{TRAIN}.{source}-{target}.{source}", lines)
    for language in pair.languages:
        shutil.copy(pair.files.bin_dir / f"dict.{language}.txt", data)
    command = distilling.command(
        *(pair, slot, data, [pair.files.model(translator)], replace(recipe, shard=len(lines))),
        *(translations, (1, 1), "--dataset-impl", "raw"),
    )
    before = os.times()
    distilling.run(slot, command, folder / "log")
    after = os.times()
    cpu = sum(getattr(after, k) - getattr(before, k) for k in ("children_user", "children_system"))
    rows = [row.split("\t") for row in files.read_lines(translations / TRAIN / "00000.tsv")]
    best = {int(line): text for line, _, text in reversed(rows)}
    said = [best.get(line, "") for line in range(1, len(lines) + 1)]
    return Measured(after.elapsed - before.elapsed, cpu, said)


def main(argv: Sequence[str] | None = None) -> int:
    """Compare the engines as the command line says; return the exit code."""
    arguments = _parser().parse_args(argv)
    return cli.run(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    pair = cli.pair_of(arguments, arguments.pair)
    if arguments.translator not in pair.titles:
        known = ", ".join(pair.titles)
        raise PipelineError(f"no model {arguments.translator}: choose from {known}")
    (slot, *_) = cli.slots(arguments, pair, [])
    table = compare(pair, slot, arguments.translator, arguments.sentences)
    print(table.to_markdown(index=False))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/engines.sh",
        description="Compare the engines that a teacher translates with: speed and agreement.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("pair", nargs="?", metavar="PAIR", help=", ".join(settings.names()))
    parser.add_argument(
        "--sentences",
        type=cli.from_one,
        default=400,
        metavar="N",
        help="number of sentences of the training text (default: 400)",
    )
    parser.add_argument(
        "--translator",
        default=spec.TRANSLATOR,
        metavar="MODEL",
        help=f"model that translates (default: {spec.TRANSLATOR})",
    )
    cli.add_text_options(parser)
    cli.add_run_options(parser, quick="use the run PAIR-quick")
    return parser


if __name__ == "__main__":
    sys.exit(main())
