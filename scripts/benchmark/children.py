"""Processes of this interpreter that find the scripts and the package."""

from __future__ import annotations

import functools
import math
import os
import subprocess
import sys
from pathlib import Path

from pipeline.engine import commands
from pipeline.models.settings import REPOSITORY

_SCRIPTS = REPOSITORY / "scripts"
# What torch, CUDA and the system say where there is not enough memory.
_OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory", "not enough memory", "MemoryError")


class ProcessError(Exception):
    """A process failed; the text is its last line."""


class OutOfMemory(ProcessError):
    """A process failed for want of memory."""


class OutOfTime(ProcessError):
    """A process was not begun, or was ended, for want of time."""


@functools.cache
def environment(tuned: bool) -> dict[str, str]:
    """That of the pipeline's trainings, or this process's own; one for all of a run's processes."""
    return commands.threads_and_memory() if tuned else dict(os.environ)


def run_module(
    module: str,
    *arguments: str | Path,
    threads: int = 0,
    tuned: bool = True,
    seconds: float = math.inf,
) -> None:
    """Run ``python -m module`` to its end.

    Args:
        module: its name.
        arguments: on its command line.
        threads: for OMP_NUM_THREADS; 0 leaves it to the environment.
        tuned: which :func:`environment`.
        seconds: how long it may take.

    Raises:
        OutOfMemory: it was killed, or said that it had too little memory.
        OutOfTime: it took longer, or there was no time to begin with.
        ProcessError: it failed otherwise.
    """
    paths = [str(_SCRIPTS), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    variables = environment(tuned) | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if threads:
        variables["OMP_NUM_THREADS"] = str(threads)
    if seconds <= 0:
        raise OutOfTime("left out: the time limit was reached")
    try:
        result = subprocess.run(
            [sys.executable, "-m", module, *map(str, arguments)],
            capture_output=True,
            text=True,
            check=False,
            env=variables,
            timeout=None if seconds == math.inf else seconds,
        )
    except subprocess.TimeoutExpired as error:
        raise OutOfTime("ended: the time limit was reached") from error
    if result.returncode == 0:
        return
    lines = [line for line in result.stderr.splitlines() if line.strip()] or ["no message"]
    if result.returncode == -9 or any(sign in lines[-1] for sign in _OUT_OF_MEMORY):
        raise OutOfMemory("too little memory")
    raise ProcessError(f"{module}: {lines[-1].removeprefix('error: ')}")
