"""Run all measurements of a setting, one process each, with interleaved repeats."""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from benchmark import children, peers
from benchmark.measure import Request, Result
from benchmark.sizes import CRITERIONS, FUSED, WITHOUT_TEACHER
from benchmark.workspace import Workspace
from ka_fairseq.errors import UserError

MEGABYTE = 1e6


@dataclass(frozen=True, order=True)
class Case:
    """A row of the table; a row without a criterion of this package has no variant."""

    criterion: str
    variant: str = ""

    @property
    def kind(self) -> str:
        """A key of :data:`benchmark.cases.CASES`."""
        return self.variant or self.criterion

    def __str__(self) -> str:
        return f"{self.criterion} {self.variant}".strip()


CROSS_ENTROPY, TEACHER, PRODUCTS = map(Case, ("cross_entropy", "teacher", "products"))


@dataclass(frozen=True)
class Plan:
    """The number of measurements, and the limits.

    Attributes:
        repeats: processes of each case.
        steps: timed steps of a process.
        warm_up: steps before the timed steps.
        threads: torch's threads; 0 leaves the default.
        keep_going: leave out a case that fails, instead of stopping.
        seconds: the time limit: no further process starts, and the running process is ended.
    """

    repeats: int
    steps: int
    warm_up: int
    threads: int
    keep_going: bool = False
    seconds: float = math.inf


@dataclass(frozen=True)
class Problem:
    """The reason why a case has no figures, or not the figures of all repeats.

    Attributes:
        case: the case.
        reason: the reason in words.
        failed: whether this package failed; False for a failed peer, and for a lack of time.
    """

    case: Case
    reason: str
    failed: bool

    def __str__(self) -> str:
        return f"{self.case}: {self.reason}"


def cases_of(criterions: Iterable[str], variants: Iterable[str]) -> list[Case]:
    """Return the two cases of the floor, and each criterion's variants.

    Only :data:`benchmark.sizes.CRITERIONS` have a plain reference. A step without a loss is
    measured beside the plain reference. A criterion without a teacher has no variants.
    """
    variants = list(variants)
    criterions = list(criterions)
    cases = [
        Case(criterion, variant)
        for criterion in criterions
        if criterion != WITHOUT_TEACHER
        for variant in variants
        if variant not in peers.PACKAGES or criterion in peers.BETA
        if variant != "plain" or criterion in CRITERIONS
        if variant != "triton" or criterion in FUSED
    ]
    first = [CROSS_ENTROPY, TEACHER, *([PRODUCTS] if "plain" in variants else [])]
    alone = [Case(WITHOUT_TEACHER)] if WITHOUT_TEACHER in criterions else []
    return [*first, *alone, *cases]


def run(workspace: Workspace, cases: list[Case], plan: Plan) -> tuple[pd.DataFrame, list[Problem]]:
    """Measure all cases in turn, ``plan.repeats`` times, each time in another order.

    Returns:
        A row for each process, see :func:`row`; and the problems. A peer that fails is a problem,
        and so is a case without time left. With ``keep_going`` every failure is a problem.

    Raises:
        UserError: a measurement failed, either without ``keep_going`` or for the floor.
    """
    deadline = time.monotonic() + plan.seconds
    problems = _build_cache(workspace, cases, plan, deadline)
    rows = []
    bar = progress(total=plan.repeats * len(cases), unit="process")
    for repeat in range(plan.repeats):
        for case in _in_order(cases, repeat):
            bar.set_description(str(case), refresh=sys.stderr.isatty())
            if case not in problems:
                try:
                    result = one(workspace, case, plan, deadline)
                    rows.append({"repeat": repeat, **asdict(case), **row(result)})
                except children.ProcessError as error:
                    needed = case in (CROSS_ENTROPY, TEACHER) and repeat == 0
                    problems[case] = _problem(case, error, plan, needed)
            bar.update()
    bar.close()
    return pd.DataFrame(rows), list(problems.values())


def _build_cache(
    workspace: Workspace, cases: list[Case], plan: Plan, deadline: float
) -> dict[Case, Problem]:
    cached = [case for case in cases if case.variant == "cached"]
    if not cached:
        return {}
    try:
        workspace.build_cache(deadline - time.monotonic())
    except children.ProcessError as error:
        failed = type(error)(f"building the teacher cache failed: {error}")
        return {case: _problem(case, failed, plan, needed=False) for case in cached}
    return {}


def _in_order(cases: list[Case], repeat: int) -> list[Case]:
    """Return the cases: in the given order first, as the floor must be measured; then shuffled."""
    order = list(cases)
    if repeat:
        random.Random(repeat).shuffle(order)
    return order


def _problem(case: Case, error: children.ProcessError, plan: Plan, needed: bool) -> Problem:
    """Return the problem to record for a failure.

    Raises:
        UserError: the failure stops the benchmark.
    """
    out_of_time = isinstance(error, children.OutOfTime)
    failed = not out_of_time and case.variant not in peers.PACKAGES
    if needed or (failed and not plan.keep_going):
        raise UserError(f"measuring {case} failed: {error}") from error
    return Problem(case, str(error), failed)


def progress(*arguments: Any, **options: Any) -> tqdm:
    """Return a progress bar; in a file the bar writes a line from time to time."""
    often = 0.1 if sys.stderr.isatty() else 30
    return tqdm(*arguments, mininterval=often, **options)


def one(
    workspace: Workspace, case: Case, plan: Plan, deadline: float = math.inf, profile: str = ""
) -> Result:
    """Run one measurement in its process.

    Args:
        workspace: the data.
        case: the case to measure.
        plan: the numbers of steps.
        deadline: the end of the time limit, by ``time.monotonic``.
        profile: see :class:`benchmark.measure.Request`.

    Raises:
        children.ProcessError: the process failed.
    """
    setting = workspace.setting
    criterion = "cross_entropy" if case in (TEACHER, PRODUCTS) else case.criterion
    request = Request(
        case=case.kind,
        options=workspace.options(criterion, case.kind),
        batches=workspace.batches,
        device=setting.device,
        precision=setting.precision,
        threads=plan.threads,
        steps=plan.steps,
        warm_up=plan.warm_up,
        profile=profile,
    )
    asked, answered = (workspace.folder / name for name in ("request.json", "result.json"))
    asked.write_text(json.dumps(asdict(request)), encoding="utf-8")
    answered.unlink(missing_ok=True)
    children.run_module(
        *("benchmark.measure", asked, answered),
        threads=plan.threads,
        tuned=setting.tuned,
        seconds=deadline - time.monotonic(),
    )
    return Result(**json.loads(Path(answered).read_text(encoding="utf-8")))


def row(result: Result) -> dict[str, Any]:
    """Return a process's figures: milliseconds a step, MB (10⁶ bytes), target tokens a step."""
    return {
        "step_ms": _mean_of_medians(result.step),
        "loss_alone_ms": _mean_of_medians(result.loss_alone),
        "reading_ms": 1e3 * statistics.mean(result.reading),
        "tokens": statistics.mean(result.tokens),
        "padded_tokens": statistics.mean(result.padded),
        "peak_mb": result.peak / MEGABYTE,
        "before_mb": result.before / MEGABYTE,
        "teacher_mb": result.teacher_weights / MEGABYTE,
        "difference": result.difference,
    }


def _mean_of_medians(seconds: list[list[float]]) -> float | None:
    """Return the mean over batches of their median milliseconds; all batches weigh the same."""
    return 1e3 * statistics.mean(map(statistics.median, seconds)) if seconds else None
