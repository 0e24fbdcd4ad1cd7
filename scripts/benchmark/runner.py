"""All measurements of a setting: one process each, the repeats interleaved."""

from __future__ import annotations

import json
import random
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from benchmark import children
from benchmark.measure import Request, Result
from benchmark.workspace import Workspace
from ka_fairseq.errors import UserError

MEGABYTE = 1e6


@dataclass(frozen=True, order=True)
class Case:
    """A row of the table: what is no criterion of this package has no variant."""

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
    """How often to measure.

    Attributes:
        repeats: processes of each case.
        steps: timed steps of a process.
        warm_up: steps before these.
        threads: of torch; 0 leaves its default.
    """

    repeats: int
    steps: int
    warm_up: int
    threads: int


def cases_of(criterions: Iterable[str], variants: Iterable[str]) -> list[Case]:
    """The two that make up the floor, a step without a loss, and each criterion's variants."""
    variants = list(variants)
    return [
        CROSS_ENTROPY,
        TEACHER,
        PRODUCTS,
        *(Case(criterion, variant) for criterion in criterions for variant in variants),
    ]


def run(workspace: Workspace, cases: list[Case], plan: Plan) -> pd.DataFrame:
    """Measure all cases in turn, ``plan.repeats`` times over, each time in another order.

    Returns:
        A row for each process, see :func:`row`.

    Raises:
        UserError: a measurement failed.
    """
    if any(case.variant == "cached" for case in cases):
        _guarded("building the teacher cache", workspace.build_cache)
    rows = []
    bar = progress(total=plan.repeats * len(cases), unit="process")
    for repeat in range(plan.repeats):
        order = list(cases)
        random.Random(repeat).shuffle(order)
        for case in order:
            bar.set_description(str(case), refresh=sys.stderr.isatty())
            result = _guarded(f"measuring {case}", lambda case=case: one(workspace, case, plan))
            rows.append({"repeat": repeat, **asdict(case), **row(result)})
            bar.update()
    bar.close()
    return pd.DataFrame(rows)


def progress(*arguments: Any, **options: Any) -> tqdm:
    """A progress bar; into a file it writes a line now and then."""
    often = 0.1 if sys.stderr.isatty() else 30
    return tqdm(*arguments, mininterval=often, **options)


def one(workspace: Workspace, case: Case, plan: Plan) -> Result:
    """One measurement in its process.

    Raises:
        children.ProcessError: it failed.
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
    )
    asked, answered = (workspace.folder / name for name in ("request.json", "result.json"))
    asked.write_text(json.dumps(asdict(request)), encoding="utf-8")
    answered.unlink(missing_ok=True)
    children.run_module(
        "benchmark.measure", asked, answered, threads=plan.threads, tuned=setting.tuned
    )
    return Result(**json.loads(Path(answered).read_text(encoding="utf-8")))


def row(result: Result) -> dict[str, Any]:
    """A process's figures: milliseconds a step, megabytes (10⁶ bytes), target tokens a step."""
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
    """Of each batch the median, in milliseconds; batches of other lengths count alike."""
    return 1e3 * statistics.mean(map(statistics.median, seconds)) if seconds else None


def _guarded(what: str, action: Any) -> Any:
    try:
        return action()
    except children.ProcessError as error:
        raise UserError(f"{what} failed: {error}") from error
