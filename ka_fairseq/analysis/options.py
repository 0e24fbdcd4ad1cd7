"""Add command-line options that several commands share, and read their values."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from fairseq import utils

from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run, find_run, parse_named_paths
from ka_fairseq.errors import UserError


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """A help formatter that shows defaults, except None and False."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False):
            return action.help
        return super()._get_help_string(action)


def add_command(
    commands: argparse._SubParsersAction, name: str, call: Callable, summary: str, description: str
) -> argparse.ArgumentParser:
    """Add a subcommand with ``--out``; ``call`` is called with the parsed arguments."""
    parser = commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=HelpFormatter,
    )
    parser.set_defaults(call=call)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("figures") / name,
        metavar="PATH",
        help="where to write, without a suffix: PATH.csv, PATH.png, PATH.svg",
    )
    return parser


def add_corpus_options(parser: argparse.ArgumentParser, split: str = "valid") -> None:
    """Add the options for the binarized text and for the machine."""
    group = parser.add_argument_group("text")
    group.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="DIR",
        help="data-bin of fairseq-preprocess, with the dictionaries of the runs",
    )
    group.add_argument("--split", default=split, help="train, valid, test, …")
    for side in ("source", "target"):
        group.add_argument(
            f"--{side}-lang",
            metavar="LANG",
            help=f"{side} language (default: the checkpoints' language)",
        )
    group = parser.add_argument_group("machine")
    group.add_argument(
        "--max-tokens",
        type=int,
        default=4000,
        metavar="N",
        help="tokens in a batch; changes memory and speed, not the numbers",
    )
    group.add_argument("--cpu", action="store_true", help="use no GPU")
    group.add_argument(
        "--user-dir",
        metavar="DIR",
        help="fairseq's --user-dir, if the architecture of the checkpoints needs one",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the runs to compare, given by their epoch checkpoints."""
    group = parser.add_argument_group("runs")
    group.add_argument(
        "--run",
        action="append",
        required=True,
        metavar="NAME=DIR",
        help="a run's name in the figure, and its --save-dir with checkpoint1.pt, checkpoint2.pt, "
        "…; give the option once for each run",
    )
    group.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="the pre-trained student that all runs start from, drawn as epoch 0",
    )


def add_teacher_options(parser: argparse.ArgumentParser, required: bool) -> None:
    """Add the options for the teacher; they have the same meaning as in training."""
    group = parser.add_argument_group("teacher")
    group.add_argument(
        "--teacher-path",
        required=required,
        metavar="FILE[:FILE…]",
        help="the teacher's checkpoint; several form an ensemble",
    )
    group.add_argument(
        "--teacher-data",
        type=Path,
        metavar="DIR",
        help="folder with the teacher's dict.LANG.txt (default: --data)",
    )


def open_runs(args: argparse.Namespace) -> list[Run]:
    """Return the runs that the options of :func:`add_run_options` name."""
    if args.start is not None and not args.start.is_file():
        raise UserError(f"no checkpoint at {args.start}: check --start")
    return [find_run(name, path, args.start) for name, path in parse_named_paths(args.run).items()]


def open_corpus(args: argparse.Namespace, like: Path) -> Corpus:
    """Read the text of :func:`add_corpus_options` with the task of the checkpoint `like`."""
    if args.max_tokens < 1:
        raise UserError(f"--max-tokens must be at least 1, not {args.max_tokens}")
    if args.user_dir is not None:
        utils.import_user_module(args)
    return Corpus.open(
        args.data,
        args.split,
        like,
        (args.source_lang, args.target_lang),
        torch.device("cpu") if args.cpu else None,
        args.max_tokens,
    )


def check_writable(out: Path) -> None:
    """Make the folder of ``--out``, and check that it is writable before the models run.

    Raises:
        UserError: the folder is not writable.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise UserError(
            f"cannot write to {out.parent}: {error.strerror}; give another --out"
        ) from error


def write_table(frame: pd.DataFrame, out: Path, part: str = "") -> None:
    """Write a table to ``out``.csv, or to ``out``_``part``.csv."""
    frame.to_csv(f"{out}_{part}.csv" if part else f"{out}.csv", index=False, float_format="%.8g")


def show(frame: pd.DataFrame, *paths: Path) -> None:
    """Print a table, and the names of the written files."""
    print(frame.to_string(index=False, float_format=lambda value: f"{value:.4g}"))
    for path in paths:
        print(f"wrote {path}.csv, {path}.png, {path}.svg")
