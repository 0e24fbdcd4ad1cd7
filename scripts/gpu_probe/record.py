"""The figures of a probe: a JSON line each, flushed at once, and a table of them at the end."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tabulate import tabulate


class OutOfTime(Exception):
    """The probe's time is over: what is left is not begun."""


@dataclass
class Record:
    """What was found until now.

    Attributes:
        file: gets a line for each figure.
        device: where figures are taken.
        quick: tiny sizes.
        seconds: how long the probe may take, all together; nothing is begun after that.
        lines: what was written.
    """

    file: Path
    device: torch.device
    quick: bool
    seconds: float
    lines: list[dict[str, Any]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds since the probe began."""
        return time.monotonic() - self.start

    def figure(self, part: str, name: str, work: Callable[..., Any], *given: Any) -> Any:
        """Take a figure; whatever goes wrong is its result, and hides no other.

        Args:
            part: which of the probe's parts it belongs to.
            name: what it is.
            work: takes it: a number, a text, or several by their names.
            given: to ``work``.

        Returns:
            What ``work`` returned; None where it failed.

        Raises:
            OutOfTime: the probe's time is over.
        """
        if self.elapsed > self.seconds:
            raise OutOfTime(f"{part}: {name}")
        begun = time.monotonic()
        line: dict[str, Any] = {"part": part, "figure": name}
        found = None
        try:
            found = work(*given)
            line["value"] = found
        except Exception as error:  # one figure's fault is no other's
            reason = next(iter(str(error).strip().splitlines()), "")
            line["error"] = f"{type(error).__name__}: {reason}"[:300]
            line["where"] = traceback.format_exc(limit=-2)[-600:]
        line |= {"seconds": round(time.monotonic() - begun, 2), "at": round(self.elapsed, 1)}
        self.lines.append(line)
        text = json.dumps(line)
        print(text, flush=True)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(f"{text}\n")
        return found

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The figures that could not be taken."""
        return [line for line in self.lines if "error" in line]

    def table(self) -> str:
        """All figures as Markdown."""
        rows = [[line["part"], line["figure"], _text(line), line["seconds"]] for line in self.lines]
        return tabulate(
            rows, headers=["part", "figure", "found", "s"], tablefmt="pipe", disable_numparse=True
        )

    def milliseconds(self, run: Callable[[], Any], rounds: int = 10) -> float:
        """The median of some runs, after two to warm up; on a GPU by its own clock."""
        for _ in range(2):
            run()
        times = sorted(self._once(run) for _ in range(3 if self.quick else rounds))
        return round(times[len(times) // 2], 3)

    def _once(self, run: Callable[[], Any]) -> float:
        if self.device.type != "cuda":
            begun = time.perf_counter()
            run()
            return 1e3 * (time.perf_counter() - begun)
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        run()
        last.record()
        last.synchronize()
        return first.elapsed_time(last)


def _text(line: dict[str, Any]) -> str:
    if "error" in line:
        return f"**{line['error']}**"
    value = line["value"]
    if isinstance(value, dict):
        return ", ".join(f"{name} {found}" for name, found in value.items())
    return str(value)
