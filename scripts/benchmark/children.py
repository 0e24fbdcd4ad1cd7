"""Run processes of this interpreter that find the scripts and the package."""

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
# Messages of torch, CUDA and the system for too little memory.
_OUT_OF_MEMORY = ("OutOfMemoryError", "out of memory", "not enough memory", "MemoryError")


class ProcessError(Exception):
    """A process failed; the text is the last line of its output."""


class OutOfMemory(ProcessError):
    """A process failed because of too little memory."""


class OutOfTime(ProcessError):
    """A process was not started, or was ended, because of the time limit."""


@functools.cache
def environment(tuned: bool) -> dict[str, str]:
    """Return the variables of the pipeline's trainings, or this process's; cached for a run."""
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
        module: the module's name.
        arguments: the command line.
        threads: the value of OMP_NUM_THREADS; 0 leaves the variable to the environment.
        tuned: see :func:`environment`.
        seconds: the time limit.

    Raises:
        OutOfMemory: the process was killed, or reported too little memory.
        OutOfTime: the process took longer, or no time was left to start it.
        ProcessError: the process failed for another reason.
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
