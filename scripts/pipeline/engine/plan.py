"""Which stages a run has: the stages that it is for, and what they need."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from pipeline.engine.stage import Stage


def plan(
    stages: Mapping[str, Stage], targets: Iterable[str], done: Callable[[str], bool]
) -> list[Stage]:
    """Return the targets, and the stages that they need and that are not done.

    Args:
        stages: all stages, by name.
        targets: names of the stages that the run is for.
        done: returns whether a needed stage may be left out, and with it all that it needs.

    Returns:
        The stages, in the order of `stages`.
    """
    found: set[str] = set()
    left = list(targets)
    while left:
        name = left.pop()
        if name not in found:
            found.add(name)
            left += [need for need in stages[name].needs if not done(need)]
    return [stage for name, stage in stages.items() if name in found]
