"""Record the figures of a probe: a JSON line each, flushed at once, and a table at the end."""

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
    """The probe's time is over; the remaining figures are left out."""


@dataclass
class Record:
    """The figures so far.

    Attributes:
        file: the file with a line for each figure.
        device: the device of the figures.
        quick: tiny sizes.
        seconds: the time limit of the probe; no figure starts after the limit.
        lines: the written lines.
    """

    file: Path
    device: torch.device
    quick: bool
    seconds: float
    lines: list[dict[str, Any]] = field(default_factory=list)
    start: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Return the seconds since the probe began."""
        return time.monotonic() - self.start

    def figure(self, part: str, name: str, work: Callable[..., Any], *given: Any) -> Any:
        """Take a figure. If the figure fails, record the reason, and let the probe go on.

        Args:
            part: the part of the probe.
            name: the name of the figure.
            work: the function that takes the figure: a number, a text, or several by name.
            given: the arguments of ``work``.

        Returns:
            The result of ``work``; None if it failed.

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
        except Exception as error:  # a failed figure must not stop the other figures
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
        """The figures that failed."""
        return [line for line in self.lines if "error" in line]

    def table(self) -> str:
        """Return all figures as Markdown."""
        rows = [[line["part"], line["figure"], _text(line), line["seconds"]] for line in self.lines]
        return tabulate(
            rows, headers=["part", "figure", "found", "s"], tablefmt="pipe", disable_numparse=True
        )

    def milliseconds(self, run: Callable[[], Any], rounds: int = 10) -> float:
        """Return the median time of some runs, after two warm-up runs; on a GPU by its clock."""
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
