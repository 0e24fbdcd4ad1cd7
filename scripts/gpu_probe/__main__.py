"""The command line of the probe."""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import platform
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# Must precede the import of fairseq, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)
warnings.simplefilter("ignore")

import pytest  # noqa: E402
import torch  # noqa: E402
from pipeline.engine import files  # noqa: E402
from pipeline.models.settings import REPOSITORY  # noqa: E402

import ka_fairseq  # noqa: E402, F401  before what imports fairseq: in half the time
from ka_fairseq.errors import UserError  # noqa: E402

from . import loss, steps, training  # noqa: E402
from .record import OutOfTime, Record  # noqa: E402

_SECONDS = 300
PARTS = ("environment", "loss", "float64", "steps", "training", "tests")
_EPILOG = f"""\
parts, in this order: {" ".join(PARTS)}

The probe is one process with one CUDA context. It fetches nothing, and writes no file of more than
a few megabytes. Each figure is a line of JSON, written at once to DIR/gpu_probe.jsonl. A figure
that fails is written with the reason, and the other figures follow. At the end the probe writes
DIR/gpu_probe.md, a table for docs/gpu.md. The exit status is 1 if a figure failed.

examples:
  python scripts/gpu_probe.py
  python scripts/gpu_probe.py --parts environment loss
  python scripts/gpu_probe.py --device cpu --quick     the probe itself, on a CPU"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message} (all options: scripts/gpu_probe.py --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Take the requested figures; return the exit code.

    Raises:
        UserError: an option is wrong, or there is no GPU.
    """
    arguments = parser().parse_args(argv)
    _check(arguments)
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    lines = output / "gpu_probe.jsonl"
    lines.unlink(missing_ok=True)
    record = Record(lines, torch.device(arguments.device), arguments.quick, arguments.seconds)
    with tempfile.TemporaryDirectory(prefix="ka-gpu-probe-") as folder:
        works: dict[str, Callable[[], Any]] = {
            "environment": lambda: _environment(record),
            "loss": lambda: loss.times(record),
            "float64": lambda: loss.closeness(record),
            "steps": lambda: steps.run(record, Path(folder) / "steps"),
            "training": lambda: training.run(record, Path(folder) / "training"),
            "tests": lambda: record.figure("tests", "pytest", _tests, record),
        }
        try:
            for name in PARTS:
                if name in (arguments.parts or PARTS):
                    works[name]()
        except OutOfTime as error:
            print(f"the time of --seconds is over: {error} and the following figures are left out")
    files.write_text(output / "gpu_probe.md", record.table() + "\n")
    print(record.table())
    return int(bool(record.failed))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the options."""
    options = _Parser(
        prog="scripts/gpu_probe.py",
        description="Measure this package on a GPU, the most telling figures first.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = options.add_argument
    add("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    add("--quick", action="store_true", help="tiny sizes")
    add("--parts", nargs="+", choices=PARTS, metavar="NAME", help="only these (default: all)")
    add("--seconds", type=int, default=_SECONDS,
        help=f"start no figure after this time (default: {_SECONDS})")  # fmt: skip
    add("--output", type=Path, default=REPOSITORY / "runs" / "gpu_probe", metavar="DIR",
        help="default: runs/gpu_probe")  # fmt: skip
    return options


def _check(arguments: argparse.Namespace) -> None:
    if arguments.seconds < 1:
        raise UserError(f"--seconds must be 1 or more, not {arguments.seconds}")
    if arguments.device == "cpu" and not arguments.quick:
        raise UserError("--device cpu needs --quick: the full sizes are for a GPU")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("torch finds no GPU here: use --device cpu --quick on a CPU")


def _environment(record: Record) -> None:
    def software() -> dict[str, str]:
        found = {"python": platform.python_version(), "torch": torch.__version__}
        found["triton"] = "none"
        if importlib.util.find_spec("triton") is not None:
            import triton

            found["triton"] = triton.__version__
        return found

    def card() -> dict[str, Any]:
        found = torch.cuda.get_device_properties(0)
        return {
            "card": found.name,
            "GB": round(found.total_memory / 1e9),
            "capability": f"{found.major}.{found.minor}",
            "CUDA": torch.version.cuda,
            "driver": torch.cuda.driver_version() if hasattr(torch.cuda, "driver_version") else "?",
        }

    record.figure("environment", "software", software)
    if record.device.type == "cuda":
        record.figure("environment", "card", card)
        record.figure("environment", "first product", lambda: record.milliseconds(_product))


def _product() -> torch.Tensor:
    square = torch.ones(4096, 4096, device="cuda", dtype=torch.bfloat16)
    return square @ square


def _tests(record: Record) -> str:
    """Run pytest in this process; on a CPU only a file that takes seconds.

    Raises:
        AssertionError: a test failed, or no test ran.
    """
    chosen = ["-m", "gpu", str(REPOSITORY / "tests")]
    if record.device.type == "cpu":
        chosen = [str(REPOSITORY / "tests" / "unit" / "loss" / "test_kernels.py"), "-k", "cpu"]
    before = Path.cwd()
    os.chdir(REPOSITORY)
    try:
        status = pytest.main(["-q", "-n0", "--tb=line", "-p", "no:cacheprovider", *chosen])
    finally:
        os.chdir(before)
    assert status == pytest.ExitCode.OK, f"pytest ended with {status!r}"
    return "passed"


if __name__ == "__main__":
    sys.exit(main())
