"""Options and error handling that the pipeline's commands share."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.engine import devices
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError, describe
from pipeline.models import settings
from pipeline.models.training import Training

# Set up logging before fairseq is imported: fairseq's own setup shows everything.
logging.basicConfig(level=logging.WARNING)

# Hide warnings of torch and Hydra that fairseq's own code causes: users cannot change the cause.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
warnings.filterwarnings("ignore", message=r"\s*version_base=")


def add_run_options(parser: argparse.ArgumentParser, quick: str) -> None:
    """Add ``--quick``, ``--full``, ``--runs``, ``--jobs`` and ``--threads``.

    Args:
        parser: the parser to extend.
        quick: the help text of ``--quick``.
    """
    variants = parser.add_mutually_exclusive_group()
    kept = {"action": "store_const", "dest": "variant", "default": ""}
    variants.add_argument("--quick", const=settings.QUICK, help=quick, **kept)
    variants.add_argument(
        "--full",
        const=settings.FULL,
        help="train longer, with section full of pair.yaml; the run is named PAIR-full",
        **kept,
    )
    parser.add_argument(
        "--runs",
        type=Path,
        default=settings.REPOSITORY / "runs",
        metavar="DIR",
        help="folder of the output (default: runs)",
    )
    parser.add_argument(
        "--jobs",
        type=from_one,
        metavar="N",
        help="number of trainings and evaluations that run at the same time, each with a share of "
        "the cores or GPUs (default: cores / --threads, or GPUs / GPUs of one training); does not "
        "change the results",
    )
    parser.add_argument(
        "--threads",
        type=from_one,
        metavar="N",
        help="threads of each training and evaluation (default: OMP_NUM_THREADS, or 1 on a CPU); "
        "another number changes the last digits of the results",
    )


def add_redo_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--force``, for commands that take no stage names."""
    parser.add_argument(
        "--force", action="store_true", help="redo the results that were made with other settings"
    )


def add_text_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `pair_of` reads: the source of the text, and ``--train-teacher``."""
    parser.add_argument(
        "--archives",
        type=Path,
        metavar="DIR",
        help="folder with the release's archives; the pipeline then downloads nothing",
    )
    parser.add_argument(
        "--train-teacher",
        action="store_true",
        help="train a teacher, even if pair.yaml names a trained teacher; the run is named "
        "PAIR-train-teacher",
    )
    own = parser.add_argument_group("your own corpus")
    own.add_argument("--data", type=Path, metavar="DIR", help="folder with the text")
    own.add_argument("--src", metavar="LANG", help="source language: the ending of its files")
    own.add_argument("--tgt", metavar="LANG", help="target language: the ending of its files")
    own.add_argument("--config", type=Path, metavar="DIR", help="folder with the configs")
    own.add_argument("--name", metavar="NAME", help="name of the run (default: the folder's name)")


def pair_of(arguments: argparse.Namespace, name: str | None) -> settings.Pair:
    """Return the named pair, or with ``--data`` the pair of the user's own corpus.

    Raises:
        PipelineError: the pair is unknown, or the options do not go together.
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
    return replace(pair, files=replace(pair.files, archives_dir=folder.resolve()))


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
    """Return the named pair.

    Args:
        name: the name of the pair.
        arguments: the command line, with the run folder and the variant.
        train_teacher: see `settings.load`.

    Raises:
        PipelineError: the pair is unknown.
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
    """Divide this machine as ``--jobs`` and ``--threads`` say, and return its slots.

    Raises:
        PipelineError: see `devices.slots`.
    """
    wanted = [training.resolved(pair) for training in trainings]
    return devices.slots(arguments.jobs, arguments.threads, wanted)


def run(action: Callable[[], None]) -> int:
    """Run a command, and return the exit code. An error that the user can correct is one line."""
    try:
        action()
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: run the same command again to go on from here", file=sys.stderr)
        return 130
    return 0


def from_one(text: str) -> int:
    """Parse a whole number of a command line that must be 1 or more."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a number from 1 up")
    return int(text)
