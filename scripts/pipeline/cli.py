"""What the command lines of the pipeline share."""

from __future__ import annotations

import argparse
import logging
import sys
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline import devices, settings
from pipeline.devices import Slot
from pipeline.errors import PipelineError, describe
from pipeline.train import Training

# Before fairseq is imported, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)

# What fairseq's own code makes torch and Hydra say, and no user of it can change.
warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
warnings.filterwarnings("ignore", message=r"\s*version_base=")


def add_run_options(parser: argparse.ArgumentParser, quick: str) -> None:
    """Add ``--quick``, with its help, ``--runs``, ``--jobs`` and ``--threads``."""
    parser.add_argument("--quick", action="store_true", help=quick)
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
        quick=arguments.quick,
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
