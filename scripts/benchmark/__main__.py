"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import logging
import math
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path

# Must precede the import of fairseq, which sets logging up to show everything.
logging.basicConfig(level=logging.WARNING)
warnings.simplefilter("ignore", UserWarning)  # Hydra warns of fairseq's use of Hydra

import torch  # noqa: E402
from pipeline.models.settings import REPOSITORY  # noqa: E402

from benchmark import missed, peers, report, runner, scaling, sizes, tables  # noqa: E402
from benchmark.runner import Plan  # noqa: E402
from benchmark.workspace import Setting, prepare  # noqa: E402
from ka_fairseq.errors import UserError  # noqa: E402
from ka_fairseq.loss.kernels import KERNELS  # noqa: E402

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
_REPEATS, _BATCHES = 5, 4


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> None:
        raise UserError(f"{message} (all options: scripts/benchmark.py --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the requested measurements; return the exit code.

    Raises:
        UserError: an option is wrong, or a measurement failed.
    """
    arguments = _parser().parse_args(argv)
    _check(arguments)
    setting, plan = _setting(arguments), _plan(arguments)
    if plan.threads:
        torch.set_num_threads(plan.threads)  # the report states this number
    notes = _choose_variants(arguments)
    if arguments.scaling:
        print(_measure_growth(arguments, setting, plan, notes))
        return 0
    return _measure_cases(arguments, setting, plan, notes)


def _measure_cases(
    arguments: argparse.Namespace, setting: Setting, plan: Plan, notes: list[str]
) -> int:
    cases = runner.cases_of(arguments.criterions, arguments.variants)
    profiles: list[missed.Profile] = []
    deadline = time.monotonic() + plan.seconds
    with tempfile.TemporaryDirectory(prefix="ka-benchmark-") as folder:
        workspace = prepare(Path(folder), setting)
        rows, problems = runner.run(workspace, cases, plan)
        measured = tables.Measured(rows)
        bounds = tables.bounds(measured, setting)
        if setting.device == "cuda":
            profiles += missed.profiles(workspace, bounds, plan, deadline)
    text = report.write(
        arguments.output,
        setting,
        rows,
        tables.summary(measured),
        bounds,
        report.facts(setting, plan, rows, [*notes, *map(str, problems)]),
        problems,
        profiles,
    )
    print(text)
    return int(any(problem.failed for problem in problems))


def _measure_growth(
    arguments: argparse.Namespace, setting: Setting, plan: Plan, notes: list[str]
) -> str:
    (criterion,) = arguments.criterions
    variants = [name for name in arguments.variants if name not in peers.PACKAGES]
    rows = scaling.run(setting, criterion, variants, plan)
    about = report.facts(setting, plan, rows, notes)
    del about["Batches"]  # the size of the batches varies here
    return scaling.write(arguments.output, setting, rows, about)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="scripts/benchmark.py",
        description="Measure time and memory of a training step with each criterion, and compare "
        "them with the smallest possible cost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--device", choices=sizes.DEVICES, default="cpu", help="default: cpu")
    add("--pair", choices=sizes.PAIRS, default="iwslt15_th_en", help="default: iwslt15_th_en")
    add("--precision", choices=sizes.PRECISIONS, default="fp32", help="fp16, bf16: GPU only")
    cpu = ", ".join(f"{name} {pair.cpu_tokens}" for name, pair in sizes.PAIRS.items())
    add("--tokens", type=int, help=f"tokens a batch, counted like --max-tokens (default: {cpu}; "
        f"on a GPU {sizes.CUDA_TOKENS})")  # fmt: skip
    add("--types", type=int, help="size of the vocabulary (default: the paper's)")
    add("--criterions", nargs="+", choices=sizes.ALL_CRITERIONS, metavar="NAME",
        help=f"default: {' '.join(sizes.CRITERIONS)}; with --scaling: backward_kl. Further names, "
        f"without a plain reference: {' '.join(sizes.MORE)}; {sizes.WITHOUT_TEACHER} is compared "
        "with fairseq's cross-entropy")  # fmt: skip
    add("--variants", nargs="+", choices=sizes.ALL_VARIANTS, metavar="NAME",
        help=f"default: {' '.join(sizes.VARIANTS)}; on a GPU also {', '.join(sizes.NAMED_KERNELS)} "
        "(chunked with this --loss-kernel), and, if installed, liger and trl (their fused "
        "losses)")  # fmt: skip
    add("--repeats", type=int, help=f"number of processes for each case (default: {_REPEATS})")
    add("--steps", type=int, help="timed steps a process (default: 8; wmt17_de_en 4; on a GPU "
        f"{sizes.CUDA_STEPS})")  # fmt: skip
    add("--warm-up", type=int, help="steps before the timed steps (default: 2; on a GPU 8)")
    add("--batches", type=int, help=f"number of different batches (default: {_BATCHES})")
    add("--threads", type=int, default=0, help="torch's threads on a CPU (default: torch's choice)")
    add("--as-is", action="store_true",
        help="keep the environment variables for threads and memory, as fairseq-train does; "
        "default: set the pipeline's variables")  # fmt: skip
    add(
        "--loss-kernel",
        choices=KERNELS,
        default="auto",
        help="loss kernel of chunked and cached (default: auto)",
    )
    add("--keep-going", action="store_true",
        help="leave out cases that fail, name them in the report, end with status 1")  # fmt: skip
    add("--time-limit", type=int, metavar="SECONDS",
        help="stop after this time, and report the finished measurements")  # fmt: skip
    add("--scaling", action="store_true",
        help="measure instead how time and memory grow over 1k to 16k tokens and 10k to 128k "
        "types, with a plot; one batch, one criterion")  # fmt: skip
    add("--quick", action="store_true", help="tiny models and batches, to test the benchmark")
    add("--output", type=Path, default=REPOSITORY / "runs" / "benchmark", metavar="DIR",
        help="default: runs/benchmark")  # fmt: skip
    return parser


def _check(arguments: argparse.Namespace) -> None:
    for name in ("tokens", "types", "repeats", "steps", "batches", "time_limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name.replace('_', '-')} must be 1 or more, not {value}")
    if arguments.threads < 0:
        raise UserError(f"--threads must be 0 (torch's default) or more, not {arguments.threads}")
    if arguments.warm_up is not None and arguments.warm_up < 0:
        raise UserError(f"--warm-up must be 0 or more, not {arguments.warm_up}")
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda, but torch finds no GPU here: choose --device cpu")
    if arguments.device == "cpu" and arguments.precision != "fp32":
        raise UserError(f"--precision {arguments.precision} is for --device cuda")
    if arguments.types is not None and arguments.types < 100:
        raise UserError(f"--types must be 100 or more, not {arguments.types}")
    if arguments.tokens is not None and arguments.tokens < 32:
        raise UserError(f"--tokens must be 32 or more, not {arguments.tokens}")
    if arguments.scaling:
        _check_scaling(arguments)


def _check_scaling(arguments: argparse.Namespace) -> None:
    if arguments.criterions and len(arguments.criterions) > 1:
        raise UserError("--scaling measures one criterion: name one with --criterions")
    if arguments.criterions == [sizes.WITHOUT_TEACHER]:
        raise UserError(f"--scaling needs a teacher: leave {sizes.WITHOUT_TEACHER} out")
    if arguments.batches not in (None, 1):
        raise UserError("--scaling measures one batch: leave --batches out")
    if arguments.keep_going or arguments.time_limit:
        raise UserError("--scaling always continues: leave --keep-going and --time-limit out")


def _setting(arguments: argparse.Namespace) -> Setting:
    pair, cuda = sizes.PAIRS[arguments.pair], arguments.device == "cuda"
    return Setting(
        pair=arguments.pair,
        types=_default(arguments, "types", pair.types),
        tokens=_default(arguments, "tokens", sizes.CUDA_TOKENS if cuda else pair.cpu_tokens),
        batches=1 if arguments.scaling else _default(arguments, "batches", _BATCHES),
        precision=arguments.precision,
        device=arguments.device,
        quick=arguments.quick,
        kernel=arguments.loss_kernel,
        tuned=not arguments.as_is,
    )


def _plan(arguments: argparse.Namespace) -> Plan:
    pair, cuda = sizes.PAIRS[arguments.pair], arguments.device == "cuda"
    batches = 1 if arguments.scaling else _default(arguments, "batches", _BATCHES)
    steps = sizes.CUDA_STEPS if cuda else 1 if arguments.scaling else pair.cpu_steps
    plan = Plan(
        repeats=_default(arguments, "repeats", _REPEATS),
        steps=_default(arguments, "steps", max(steps, batches)),
        warm_up=_default(arguments, "warm_up", 8 if cuda else 1 if arguments.scaling else 2),
        threads=arguments.threads,
        keep_going=arguments.keep_going,
        seconds=arguments.time_limit or math.inf,
    )
    if plan.steps < batches:
        raise UserError(
            f"--steps {plan.steps} would skip some of the {batches} batches: pass --steps "
            f"{batches} or --batches {plan.steps}"
        )
    return plan


def _default(arguments: argparse.Namespace, name: str, otherwise: int) -> int:
    given = getattr(arguments, name)
    if given is not None:
        return given
    return _QUICK[name] if arguments.quick else otherwise


def _choose_variants(arguments: argparse.Namespace) -> list[str]:
    """Fill in the default criterions and variants; return notes for the report.

    Raises:
        UserError: a named variant is not installed.
    """
    notes = []
    with_peers = arguments.device == "cuda" and not arguments.variants and not arguments.scaling
    variants = list(dict.fromkeys(arguments.variants or sizes.VARIANTS))
    if with_peers:
        variants += sizes.NAMED_KERNELS
        variants += [name for name in peers.PACKAGES if peers.installed(name)]
    for name, (package, *_) in peers.PACKAGES.items():
        if name in variants and not peers.installed(name):
            raise UserError(f"{package} is not installed: leave {name} out of --variants")
        if name in variants:
            notes.append(f"{name}: {peers.version(name)}")
        elif with_peers:
            notes.append(f"{package} is not installed, so it was not measured.")
    everything = ["backward_kl"] if arguments.scaling else sizes.CRITERIONS
    arguments.variants = variants
    arguments.criterions = list(dict.fromkeys(arguments.criterions or everything))
    return notes


if __name__ == "__main__":
    sys.exit(main())
