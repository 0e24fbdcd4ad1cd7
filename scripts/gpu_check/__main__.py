"""The command line of the check."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gpu_check import environment

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 480
# As gpu_check.parts has them, which cannot be imported before what it needs is known to be there.
_ON_A_GPU = ("prepare", "tests", "train-fp16", "train-bf16", "train-amp")

_EPILOG = f"""\
parts: {" ".join(_ON_A_GPU)} speed-4096 speed-8192
       with --quick speed in place of the last two; on a CPU no train-fp16, which needs a GPU

prepare     binarizes tests/data/libreoffice-help and trains a tiny teacher
tests       pytest -m gpu
train-…     fairseq-train in a precision: an epoch that fills the teacher's cache, one that reads
            it, one after a new start; beside them three epochs without a cache
speed-…     scripts/benchmark.py at the paper's De-En sizes in bf16, with this many tokens a batch
            and the peers that are installed (liger-kernel, trl); the compiled loss beside the eager

Ends with 1 where a part failed. What each command printed is in DIR/logs. Fetches nothing.

examples:
  scripts/gpu_check.sh
  scripts/gpu_check.sh --parts train-amp tests
  scripts/gpu_check.sh --device cpu --quick     the check itself, on a CPU"""


def main(argv: Sequence[str] | None = None) -> int:
    """Check what the command line names; return the exit code."""
    arguments = _parser().parse_args(argv)
    names = names_of(arguments.device, arguments.quick)
    _check(arguments, names)
    environment.check(arguments.device)

    from gpu_check import runner  # what it imports may be missing until here
    from gpu_check.part import Setting

    # As Ctrl-C does: all that runs is ended with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    setting = Setting(arguments.device, arguments.quick, arguments.output.resolve())
    try:
        return runner.run(setting, arguments.parts or names, arguments.limit, arguments.commit)
    except KeyboardInterrupt:
        print("interrupted: what was found until then is in --output", file=sys.stderr)
        return 130


def names_of(device: str, quick: bool) -> tuple[str, ...]:
    """What ``--parts`` can name."""
    trainings = [name for name in _ON_A_GPU if device == "cuda" or name != "train-fp16"]
    return (*trainings, *(("speed",) if quick else ("speed-4096", "speed-8192")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/gpu_check.sh",
        description="Tries on a GPU what a GPU may break: tests, trainings, speed.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    add("--quick", action="store_true", help="every part in a small form")
    add("--parts", nargs="+", metavar="NAME", help="these parts alone (default: all, see below)")
    add("--limit", type=int, default=LIMIT, metavar="SECONDS",
        help=f"for everything together (default: {LIMIT})")  # fmt: skip
    add("--commit", metavar="TEXT", help="what the report calls this state (default: git's)")
    add("--output", type=Path, default=REPOSITORY / "runs" / "gpu_check", metavar="DIR",
        help="default: runs/gpu_check")  # fmt: skip
    return parser


def _check(arguments: argparse.Namespace, names: Sequence[str]) -> None:
    if unknown := [name for name in arguments.parts or () if name not in names]:
        raise SystemExit(f"error: no part {unknown[0]}: choose from {', '.join(names)}")
    if arguments.limit < 1:
        raise SystemExit(f"error: --limit must be 1 or more, not {arguments.limit}")
    if arguments.device == "cpu" and not arguments.quick:
        raise SystemExit("error: --device cpu needs --quick: the full sizes are for a GPU")


if __name__ == "__main__":
    sys.exit(main())
