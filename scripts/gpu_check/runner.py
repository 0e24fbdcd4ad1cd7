"""From the names of parts to their outcomes, told and written as they come."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from pipeline import files

from gpu_check import report
from gpu_check.part import Outcome, Part, Setting, attempt, stop
from gpu_check.parts import groups_of


def run(setting: Setting, names: Sequence[str], limit: int, commit: str | None) -> int:
    """Try the parts of these names and those that they need; print the table.

    Args:
        setting: how.
        names: which.
        limit: seconds for everything together.
        commit: what the report calls this state; None asks git.

    Returns:
        1 where a part failed, else 0.
    """
    start = time.monotonic()
    for folder in (setting.work, setting.folder / "logs"):
        files.remove(folder)  # of a run before
    about = report.facts(setting, commit)
    print(f"GPU: {about['GPU']}", file=sys.stderr)
    groups = _chosen(names, setting)
    total = sum(map(len, groups))
    outcomes: dict[str, Outcome] = {}
    path = Path()
    for group in groups:
        for outcome in _together(group, setting, start + limit, dict(outcomes)):
            outcomes[outcome.part.name] = outcome
            # After every part: whatever ends this process leaves what was found until then.
            done = list(outcomes.values())
            path = report.write(setting, done, about, time.monotonic() - start, total)
            _tell(outcome, len(done), total)
    files.remove(setting.work)
    print(path.read_text(encoding="utf-8"))
    return int(any(outcome.status == "failed" for outcome in outcomes.values()))


def _chosen(names: Sequence[str], setting: Setting) -> list[list[Part]]:
    groups = groups_of(setting.device, setting.quick)
    needed = {part.needs for group in groups for part in group if part.name in names}
    wanted = [[part for part in group if part.name in {*names, *needed}] for group in groups]
    return [group for group in wanted if group]


def _together(
    group: list[Part], setting: Setting, deadline: float, before: dict[str, Outcome]
) -> Iterator[Outcome]:
    """Try a group: side by side on a GPU, which they do not fill, and one by one on a CPU."""
    with ThreadPoolExecutor(len(group) if setting.device == "cuda" else 1) as pool:
        futures = [pool.submit(attempt, part, setting, deadline, before) for part in group]
        for part in group:
            print(f"to do: {part.title}", file=sys.stderr)
        try:
            yield from (future.result() for future in as_completed(futures))
        except BaseException:  # Ctrl-C above all: the pool would wait for its threads
            stop()
            raise


def _tell(outcome: Outcome, done: int, total: int) -> None:
    why = f": {outcome.findings.errors[0]}" if outcome.findings.errors else ""
    print(
        f"[{done}/{total}] {outcome.part.title}: {outcome.status} in {outcome.seconds:.0f} s{why}",
        file=sys.stderr,
    )
