"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

# Must precede the import of fairseq, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)
warnings.simplefilter("ignore", UserWarning)  # Hydra warns of fairseq's use of Hydra

import torch  # noqa: E402
from pipeline.models.settings import REPOSITORY  # noqa: E402

import ka_fairseq  # noqa: E402, F401  before what imports fairseq: in half the time
from benchmark import report, scaling, sizes  # noqa: E402
from benchmark.processes import (  # noqa: E402
    CROSS_ENTROPY,
    TEACHER,
    Setting,
    Workspace,
    cases_of,
    run,
)
from ka_fairseq.errors import UserError  # noqa: E402

_EPILOG = """\
A step is a forward and a backward pass of the student, without the optimizer, on synthetic
sentences of realistic lengths. The report compares the step with the floor: fairseq's cross-entropy
step and the teacher's forward pass, measured in the same run. Run the benchmark on an otherwise
idle machine. The temporary folder (TMPDIR) holds the teacher's checkpoint, 1 GB for wmt17_de_en.

examples:
  python scripts/benchmark.py --pair iwslt15_th_en
  python scripts/benchmark.py --pair wmt17_de_en --device cuda --precision bf16
  python scripts/benchmark.py --pair iwslt15_th_en --scaling --repeats 3"""

_QUICK = {"types": 200, "tokens": 128, "repeats": 2, "steps": 2, "warm_up": 1, "batches": 2}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message} (all options: scripts/benchmark.py --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the requested measurements; return the exit code.

    Raises:
        UserError: an option is wrong, or a measurement failed.
    """
    arguments = _parser().parse_args(argv)
    setting = _setting(arguments)
    everything = ["backward_kl"] if arguments.scaling else sizes.CRITERIONS
    cases = cases_of(
        dict.fromkeys(arguments.criterions or everything),
        dict.fromkeys(arguments.variants or sizes.VARIANTS),
    )
    name = report.name_of(setting)
    deadline = time.monotonic() + (arguments.time_limit or math.inf)
    if arguments.scaling:
        name += "-scaling"
        rows = scaling.measure(setting, cases, deadline)
        scaling.plot(rows, arguments.output / name)
        text = scaling.markdown(setting, rows, name)
    else:
        with tempfile.TemporaryDirectory(prefix="ka-benchmark-") as folder:
            cases = [CROSS_ENTROPY, TEACHER, *cases]
            rows = run(Workspace(Path(folder), setting), cases, deadline)
        total = setting.repeats * len(cases)
        if len(rows) < 2:
            raise UserError(
                "the time limit ended before the floor was measured: choose a larger one"
            )
        ended = f"Ended by the time limit after {len(rows)} of {total} processes."
        text = report.markdown(setting, rows, [ended] if len(rows) < total else [])
    report.write(arguments.output, name, text, rows)
    print(text)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="scripts/benchmark.py",
        description="Measure time and memory of a training step with each criterion, and compare "
        "them with the smallest possible cost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    add("--pair", choices=sizes.PAIRS, default="iwslt15_th_en", help="default: iwslt15_th_en")
    add(
        "--precision", choices=("fp32", "fp16", "bf16"), default="fp32", help="fp16, bf16: GPU only"
    )
    cpu = ", ".join(f"{name} {pair.cpu_tokens}" for name, pair in sizes.PAIRS.items())
    add("--tokens", type=_at_least(32), help="tokens a batch, counted like --max-tokens (default: "
        f"{cpu}; on a GPU {sizes.CUDA_TOKENS})")  # fmt: skip
    add("--criterions", nargs="+", choices=sizes.ALL_CRITERIONS, metavar="NAME",
        help=f"default: {' '.join(sizes.CRITERIONS)}; with --scaling: backward_kl. Further names, "
        f"without a plain reference: {' '.join(sizes.MORE)}; {sizes.WITHOUT_TEACHER} is compared "
        "with fairseq's cross-entropy")  # fmt: skip
    add("--variants", nargs="+", choices=(*sizes.VARIANTS, *sizes.KERNELS), metavar="NAME",
        help=f"default: {' '.join(sizes.VARIANTS)}; also {', '.join(sizes.KERNELS)}: chunked with "
        "this --loss-kernel")  # fmt: skip
    add("--repeats", type=_at_least(1), help="number of processes for each case (default: 5)")
    add("--steps", type=_at_least(1), help="timed steps a process (default: 8; wmt17_de_en 4; on a "
        f"GPU {sizes.CUDA_STEPS})")  # fmt: skip
    add("--warm-up", type=_at_least(0),
        help="steps before the timed steps (default: 2; on a GPU 8)")  # fmt: skip
    add("--batches", type=_at_least(1),
        help="number of different batches (default: 4; with --scaling: 1)")  # fmt: skip
    add("--threads", type=_at_least(0), default=0,
        help="torch's threads on a CPU (default: torch's choice)")  # fmt: skip
    add("--as-is", action="store_true",
        help="keep the environment variables for threads and memory, as fairseq-train does; "
        "default: set the pipeline's variables")  # fmt: skip
    add("--time-limit", type=_at_least(1), metavar="SECONDS",
        help="stop after this time, and report the finished measurements")  # fmt: skip
    add("--scaling", action="store_true",
        help="measure instead how time and memory grow over 1k to 16k tokens and 10k to 128k "
        "types, with a plot")  # fmt: skip
    add("--quick", action="store_true", help="tiny models and batches, to test the benchmark")
    add("--output", type=Path, default=REPOSITORY / "runs" / "benchmark", metavar="DIR",
        help="default: runs/benchmark")  # fmt: skip
    return parser


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.lstrip("-").isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a number from {least} up, not {text}")
        return int(text)

    return number


def _setting(arguments: argparse.Namespace) -> Setting:
    """Return the setting of the options and their defaults.

    Raises:
        UserError: the options do not go together.
    """
    pair, cuda, scales = sizes.PAIRS[arguments.pair], arguments.device == "cuda", arguments.scaling
    if cuda and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch finds no GPU here: choose --device cpu")
    if not cuda and arguments.precision != "fp32":
        raise UserError(f"--precision {arguments.precision} is for --device cuda")
    defaults = {
        "types": pair.types,
        "tokens": sizes.CUDA_TOKENS if cuda else pair.cpu_tokens,
        "batches": 4,
        "repeats": 5,
        "steps": sizes.CUDA_STEPS if cuda else 1 if scales else pair.cpu_steps,
        "warm_up": 8 if cuda else 1 if scales else 2,
    }
    defaults |= _QUICK if arguments.quick else {}
    defaults |= {"batches": 1} if scales else {}
    given = {
        name: value for name in defaults if (value := getattr(arguments, name, None)) is not None
    }
    chosen = defaults | given
    if "steps" not in given:
        chosen["steps"] = max(chosen["steps"], chosen["batches"])
    if (steps := chosen["steps"]) < (batches := chosen["batches"]):
        raise UserError(
            f"--steps {steps} would skip some of the {batches} batches: pass --steps {batches} or "
            f"--batches {steps}"
        )
    return Setting(
        pair=arguments.pair,
        precision=arguments.precision,
        device=arguments.device,
        quick=arguments.quick,
        threads=arguments.threads,
        tuned=not arguments.as_is,
        **chosen,
    )


if __name__ == "__main__":
    sys.exit(main())
