"""What the command lines of the pipeline share."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.engine import devices, quick_start
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError, describe
from pipeline.models import settings
from pipeline.models.training import Training

# Before fairseq is imported, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)
quick_start.install()

# What fairseq's own code makes torch and Hydra say, and no user of it can change.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
warnings.filterwarnings("ignore", message=r"\s*version_base=")


def add_run_options(parser: argparse.ArgumentParser, quick: str) -> None:
    """Add ``--quick``, with its help, ``--full``, ``--runs``, ``--jobs`` and ``--threads``."""
    variants = parser.add_mutually_exclusive_group()
    for variant, text in (
        (settings.QUICK, quick),
        (settings.FULL, "the section full of pair.yaml: longer; the run is named PAIR-full"),
    ):
        variants.add_argument(
            f"--{variant}",
            action="store_const",
            dest="variant",
            const=variant,
            default="",
            help=text,
        )
    parser.add_argument(
        "--runs",
        type=Path,
        default=settings.REPOSITORY / "runs",
        metavar="DIR",
        help="output (default: runs)",
    )
    parser.add_argument(
        "--jobs",
        type=from_one,
        metavar="N",
        help="trainings and evaluations at a time that do not need each other, with a share of the "
        "cores or GPUs each (default: as many as there are for --threads, or for the GPUs that "
        "one training uses); the results are the same with any",
    )
    parser.add_argument(
        "--threads",
        type=from_one,
        metavar="N",
        help="of each training and evaluation (default: OMP_NUM_THREADS, or 1 on a CPU); another "
        "number gives other last digits",
    )


def add_redo_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--force``, for commands whose stages no one names."""
    parser.add_argument(
        "--force", action="store_true", help="redo what was made with other settings than today's"
    )


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Add what says where the text is from, and ``--train-teacher``: for `pair_of`."""
    parser.add_argument(
        "--archives",
        type=Path,
        metavar="DIR",
        help="folder with the release's archives, fetched by hand: nothing is downloaded",
    )
    parser.add_argument(
        "--train-teacher",
        action="store_true",
        help="train a teacher where the pair's settings name one that is there already; the run is "
        "named PAIR-train-teacher",
    )
    own = parser.add_argument_group("your own corpus")
    own.add_argument("--data", type=Path, metavar="DIR", help="folder with the text")
    own.add_argument("--src", metavar="LANG", help="source language, the ending of its files")
    own.add_argument("--tgt", metavar="LANG", help="target language, likewise")
    own.add_argument("--config", type=Path, metavar="DIR", help="folder with the configs")
    own.add_argument("--name", metavar="NAME", help="name of the run (default: that of the folder)")


def pair_of(arguments: argparse.Namespace, name: str | None) -> settings.Pair:
    """Return the pair of this name, or with ``--data`` the one on the user's own corpus.

    Raises:
        PipelineError: there is none, or the options do not go together.
    """
    if arguments.data is not None:
        if name is not None:
            raise PipelineError(f"{name} is a pair, and --data another text: give one of them")
        return _own_pair(arguments)
    if arguments.src or arguments.tgt or arguments.config or arguments.name:
        raise PipelineError("--src, --tgt, --config and --name go with --data")
    if name is None:
        known = ", ".join(settings.names())
        raise PipelineError(f"which pair? One of: {known} (or --data DIR)")
    pair = load_pair(name, arguments, train_teacher=arguments.train_teacher)
    return _with_archives(pair, arguments.archives)


def _with_archives(pair: settings.Pair, folder: Path | None) -> settings.Pair:
    if folder is None:
        return pair
    if "archives" not in pair.text:
        raise PipelineError(f"{pair.name} is made from no archives: leave --archives out")
    if not folder.is_dir():
        raise PipelineError(f"--archives {folder} is no folder")
    return replace(pair, archives_dir=folder.resolve())


def _own_pair(arguments: argparse.Namespace) -> settings.Pair:
    needed = {"--src": arguments.src, "--tgt": arguments.tgt, "--config": arguments.config}
    if missing := [option for option, value in needed.items() if not value]:
        raise PipelineError(f"--data needs {', '.join(missing)} too")
    if arguments.src == arguments.tgt:
        raise PipelineError("--src and --tgt are the same language")
    name = arguments.name or arguments.data.resolve().name
    return settings.load(
        arguments.config,
        arguments.runs,
        name=name,
        variant=arguments.variant,
        train_teacher=arguments.train_teacher,
        own=(arguments.data, arguments.src, arguments.tgt),
    )


def load_pair(
    name: str, arguments: argparse.Namespace, *, train_teacher: bool = False
) -> settings.Pair:
    """Return the pair of this name; `train_teacher` as in `settings.load`.

    Raises:
        PipelineError: there is none.
    """
    known = settings.names()
    if name not in known:
        raise PipelineError(f"unknown pair {name}: choose one of {', '.join(known)}")
    return settings.load(
        settings.CONFIGS / name,
        arguments.runs,
        variant=arguments.variant,
        train_teacher=train_teacher,
    )


def slots(
    arguments: argparse.Namespace, pair: settings.Pair, trainings: Iterable[Training]
) -> list[Slot]:
    """Return what ``--jobs`` and ``--threads`` make of this machine.

    Raises:
        PipelineError: see `devices.slots`.
    """
    wanted = [training.resolved(pair) for training in trainings]
    return devices.slots(arguments.jobs, arguments.threads, wanted)


def run(action: Callable[[], None]) -> int:
    """Run a command; an error that the user can mend is one line. Return the exit code."""
    try:
        action()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def from_one(text: str) -> int:
    """Read a number of a command line that is 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return int(text)
