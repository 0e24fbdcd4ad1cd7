"""Profile the times that missed their bounds, each in its own process."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tabulate import tabulate

from benchmark import children, runner
from benchmark.kernels import Kernel
from benchmark.runner import Case, Plan
from benchmark.tables import Bound
from benchmark.workspace import Workspace

_LONGEST_NAME = 90


@dataclass(frozen=True)
class Profile:
    """The kernels of a time.

    Attributes:
        case: the profiled case.
        part: "step" or "loss_alone".
        kernels: the kernels that take the most time.
        problem: the reason if there are no kernels.
    """

    case: Case
    part: str
    kernels: list[Kernel] = field(default_factory=list)
    problem: str = ""

    @property
    def title(self) -> str:
        """The title in words."""
        return f"{self.case}, {self.part.replace('_', ' ')}"


def times(bounds: Iterable[Bound]) -> list[tuple[Case, str]]:
    """Return each (case, part) whose time missed a bound that applies, once."""
    found = [(bound.case, bound.part) for bound in bounds if bound.missed and bound.part]
    return list(dict.fromkeys(found))


def profiles(
    workspace: Workspace, bounds: Iterable[Bound], plan: Plan, deadline: float
) -> Iterator[Profile]:
    """Profile each time that missed its bound.

    Args:
        workspace: the data.
        bounds: all bounds.
        plan: the number of warm-up steps.
        deadline: the end of the time limit, by ``time.monotonic``.
    """
    for case, part in times(bounds):
        try:
            result = runner.one(workspace, case, plan, deadline, part)
            yield Profile(case, part, [Kernel(**kernel) for kernel in result.kernels])
        except children.ProcessError as error:
            yield Profile(case, part, problem=str(error))


def markdown(found: Iterable[Profile]) -> list[str]:
    """Return a table for each profile."""
    lines = []
    for profile in found:
        lines += [f"Missed: {profile.title}", "", profile.problem or _table(profile), ""]
    return lines


def _table(profile: Profile) -> str:
    rows = [
        [_short(kernel.name), f"{kernel.calls:g}", f"{kernel.ms:.2f}", f"{kernel.share:.0f} %"]
        for kernel in profile.kernels
    ]
    headers = ["kernel or operator", "calls", "ms", "of all"]
    align = ("left", "right", "right", "right")
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True, colalign=align)


def _short(name: str) -> str:
    """Return a kernel's name, shortened and without a bar, which would end the table's cell."""
    name = name.replace("|", "/")
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
