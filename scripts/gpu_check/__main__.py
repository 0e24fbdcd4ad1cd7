"""The command line of the check."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

from gpu_check import environment

if TYPE_CHECKING:
    from gpu_check.part import Outcome, Part, Setting

REPOSITORY = Path(__file__).resolve().parents[2]
LIMIT = 480
NAMES = ("prepare", "tests", "train-fp16", "train-bf16", "train-amp", "speed-4096", "speed-8192")
QUICK_NAMES = (*NAMES[:5], "speed")

_EPILOG = f"""\
parts: {" ".join(NAMES)}; with --quick: {" ".join(QUICK_NAMES)}

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
    names = QUICK_NAMES if arguments.quick else NAMES
    _check(arguments, names)
    environment.check(arguments.device)

    from pipeline import files

    from gpu_check import report  # what it imports may be missing until here
    from gpu_check.part import Setting

    setting = Setting(arguments.device, arguments.quick, arguments.output.resolve())
    files.remove(setting.work)
    files.remove(setting.folder / "logs")
    start = time.monotonic()
    about = report.facts(setting, arguments.commit)
    print(f"GPU: {about['GPU']}", file=sys.stderr)
    groups = _chosen(arguments.parts or names, arguments.quick)
    total = sum(map(len, groups))
    outcomes: dict[str, Outcome] = {}
    path = setting.folder
    for group in groups:
        for outcome in _together(group, setting, start + arguments.limit, dict(outcomes)):
            outcomes[outcome.part.name] = outcome
            # After every part: whatever ends this process leaves what was found until then.
            done = list(outcomes.values())
            path = report.write(setting, done, about, time.monotonic() - start, total)
            _tell(outcome, len(done), total)
    files.remove(setting.work)  # a teacher of De-En's size is 1 GB
    print(path.read_text(encoding="utf-8"))
    return int(any(outcome.status == "failed" for outcome in outcomes.values()))


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


def _chosen(names: Sequence[str], quick: bool) -> list[list[Part]]:
    """The parts of these names, and those that they need; a group's may run side by side."""
    from gpu_check.parts import groups_of

    groups = groups_of(quick)
    needed = {part.needs for group in groups for part in group if part.name in names}
    wanted = [[part for part in group if part.name in {*names, *needed}] for group in groups]
    return [group for group in wanted if group]


def _together(
    group: list[Part], setting: Setting, deadline: float, before: dict[str, Outcome]
) -> Sequence[Outcome]:
    """Try a group: side by side on a GPU, which they do not fill, and one by one on a CPU."""
    from gpu_check.part import attempt

    with ThreadPoolExecutor(len(group) if setting.device == "cuda" else 1) as pool:
        futures = [pool.submit(attempt, part, setting, deadline, before) for part in group]
        for part in group:
            print(f"begins: {part.title}", file=sys.stderr)
        yield from (future.result() for future in as_completed(futures))


def _tell(outcome: Outcome, done: int, total: int) -> None:
    why = f": {outcome.findings.errors[0]}" if outcome.findings.errors else ""
    print(
        f"[{done}/{total}] {outcome.part.title}: {outcome.status} in {outcome.seconds:.0f} s{why}",
        file=sys.stderr,
    )


if __name__ == "__main__":
    sys.exit(main())
