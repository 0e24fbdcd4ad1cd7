"""``kill -9`` at chosen moments of real command lines, the same ones in every run of the tests.

A process that is started with :func:`watched` says what it is doing: each file that it opens for
writing or renames below a folder, and each line that it logs. A moment is one of these: there the
process, and all that it started or was started by, is killed before the file is touched or the line
is written; or, with :attr:`Moment.bytes`, in the middle of the write.
"""

from __future__ import annotations

import contextlib
import os
import runpy
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests import forking

HOOK = Path(__file__).parent / "hook"


@dataclass(frozen=True)
class Moment:
    """When to kill.

    Attributes:
        event: as the trace has it, with the updates that were last logged ("@20"); the first time
            that it comes.
        bytes: let a file that is opened grow to this size first.
    """

    event: str
    bytes: int | None = None


def watched(folder: Path, trace: Path | None = None, at: Moment | None = None) -> dict[str, str]:
    """Return what to add to the environment of a command.

    Args:
        folder: where its files are.
        trace: gets a line for each thing that it does.
        at: when to kill.
    """
    found = {"PYTHONPATH": str(HOOK), "KILLING_FOLDER": str(folder)}
    if trace is not None:
        found["KILLING_TRACE"] = str(trace)
    if at is not None:
        found["KILLING_EVENT"] = at.event
        if at.bytes is not None:
            found["KILLING_BYTES"] = str(at.bytes)
    return found


def run_and_kill(command: Sequence[str], env: Mapping[str, str], folder: Path, at: Moment) -> str:
    """Start a command in a group of its own, see that it is killed, and return what it printed.

    Raises:
        AssertionError: it came to an end by itself.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**env, **watched(folder, at=at)},
        start_new_session=True,
    )
    output, _ = process.communicate()
    while _members(process.pid):  # they hold the lock of the run until they are gone
        time.sleep(0.01)
    assert process.returncode == -signal.SIGKILL, f"{at} never came:\n{output}"
    return output


def fork_and_kill(
    act: Callable[..., None], words: Sequence[object], folder: Path, at: Moment
) -> None:
    """The same for a function of a module, in a process that is forked: it begins at once.

    Raises:
        AssertionError: it came to an end by itself.
    """
    words = (act, words, watched(folder, at=at))
    process = forking.context().Process(target=_act_watched, args=words)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, f"{at} never came"


def _act_watched(act: Callable[..., None], words: Sequence[object], env: Mapping[str, str]) -> None:
    os.setpgrp()  # all of the group is killed
    os.environ.update(env)
    runpy.run_path(str(HOOK / "sitecustomize.py"))
    act(*words)


def _members(group: int) -> list[int]:
    """The processes of a group that are not dead yet."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def events(trace: Path) -> list[str]:
    """Return what a trace holds, in its order."""
    return os.fsdecode(trace.read_bytes()).splitlines()
