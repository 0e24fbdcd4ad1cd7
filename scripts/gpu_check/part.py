"""A part of the check: what it is, what it does with its time, what became of it."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline import commands
from pipeline.settings import REPOSITORY


class PartError(Exception):
    """A part failed; the text says why, in a line."""


@dataclass
class Findings:
    """What a part found.

    Attributes:
        summary: a line.
        errors: what is wrong, a line each; none where all is well.
        text: Markdown below the table of all parts.
        data: for the JSON.
    """

    summary: str
    errors: list[str] = field(default_factory=list)
    text: str = ""
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setting:
    """How to check.

    Attributes:
        device: "cuda" or "cpu".
        quick: in a small form.
        folder: where all output goes.
    """

    device: str
    quick: bool
    folder: Path

    @property
    def work(self) -> Path:
        """Data, checkpoints and caches, begun anew in every run."""
        return self.folder / "work"


@dataclass(frozen=True)
class Job:
    """A part at work.

    Attributes:
        name: the part's.
        setting: how to check.
        deadline: when it has to be done, by ``time.monotonic``.
    """

    name: str
    setting: Setting
    deadline: float

    @property
    def left(self) -> float:
        """Seconds until then."""
        return self.deadline - time.monotonic()

    def run(self, step: str, *arguments: object) -> Path:
        """Run this Python with arguments, to its end; it and all that it started end in time.

        Returns:
            The log, with everything that it printed.

        Raises:
            PartError: it failed, or there was too little time.
        """
        command = [sys.executable, *map(str, arguments)]
        log = self.setting.folder / "logs" / f"{self.name}-{step}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w", encoding="utf-8") as file:
            file.write(f"$ {' '.join(command)}\n")
            file.flush()
            code = _within(self.left, command, file, self.setting.device)
        if code is None:
            raise PartError(f"{step}: its time was over")
        if code:
            raise PartError(f"{step}: {commands.reason(code, log)}")
        return log


def _within(seconds: float, command: list[str], file: Any, device: str) -> int | None:
    """The exit status, or None where the process had to be ended."""
    if seconds <= 0 or _stopping.is_set():
        return None
    process = subprocess.Popen(
        command,
        stdout=file,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        cwd=REPOSITORY,
        env=_environment(device),
        start_new_session=True,
    )
    _running.add(process)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        _running.discard(process)
        _end(process)
        process.wait()


# A session of its own does not hear of the terminal's Ctrl-C.
_running: set[subprocess.Popen] = set()
_stopping = threading.Event()


def stop() -> None:
    """End all commands that run, in whichever thread, and begin none any more."""
    _stopping.set()
    for process in tuple(_running):
        _end(process)


def _end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # with its data workers and compilers


def _environment(device: str) -> dict[str, str]:
    # The check may itself run in a test, whose own settings are not for the tests that it runs.
    variables = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    paths = [str(REPOSITORY / "scripts"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    variables |= {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    # Several threads that have to share a core slow such small models down many times over; on a
    # GPU, too, parts run side by side, and a core is enough for each.
    variables = {"OMP_NUM_THREADS": "1", **variables}
    return variables | ({"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {})


@dataclass(frozen=True)
class Part:
    """What is tried.

    Attributes:
        name: for ``--parts``, and of its logs.
        title: in words.
        work: does it.
        seconds: how long it may take on a GPU; on a CPU the time of the whole check alone counts.
        needs: the part that has to go well before; empty for none.
    """

    name: str
    title: str
    work: Callable[[Job], Findings]
    seconds: int
    needs: str = ""


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    Attributes:
        part: which.
        status: "ok" or "failed".
        seconds: how long it took.
        findings: what it found.
    """

    part: Part
    status: str
    seconds: float
    findings: Findings


def attempt(part: Part, setting: Setting, deadline: float, before: dict[str, Outcome]) -> Outcome:
    """Try a part; whatever goes wrong becomes its outcome.

    Args:
        part: which.
        setting: how.
        deadline: of the whole check.
        before: outcomes of the parts before, by name.
    """
    start = time.monotonic()
    needed = before.get(part.needs)
    status = "failed"
    try:
        if needed is not None and needed.status != "ok":
            raise PartError(f"needs {part.needs}, which failed")
        if start >= deadline:
            raise PartError("not begun: the time of the whole check was over")
        own = start + (part.seconds if setting.device == "cuda" else math.inf)
        findings = part.work(Job(part.name, setting, min(deadline, own)))
        status = "failed" if findings.errors else "ok"
    except PartError as error:
        findings = Findings("", [str(error)])
    except Exception as error:  # a fault of the check's own hides no other part
        findings = Findings("", [f"{type(error).__name__}: {error}"])
    return Outcome(part, status, time.monotonic() - start, findings)
