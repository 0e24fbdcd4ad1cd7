"""Run fairseq's commands: write their output to a log, and pass each line to the caller."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

from pipeline.engine import quick_start
from pipeline.engine.devices import WHOLE, Slot
from pipeline.engine.errors import PipelineError

# The last line of a Python traceback: the exception's class, then its message.
_EXCEPTION = re.compile(r"^[\w.]*(Error|Exception|Interrupt|Exit)(:|$)")

# Threads spin if the CPU load, in percent, is below this value.
IDLE = 20


class _Children:
    """The running commands, each in its own thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at_work: set[subprocess.Popen[str]] = set()
        self._ending = False

    def start(self, command: list[str], **kwargs: Any) -> subprocess.Popen[str]:
        with self._lock:
            if self._ending:
                raise PipelineError("not started: the pipeline is ending")
            process = subprocess.Popen(command, **kwargs)
            self._at_work.add(process)
            return process

    def ended(self, process: subprocess.Popen[str]) -> None:
        with self._lock:
            self._at_work.discard(process)

    def end_all(self) -> None:
        with self._lock:
            self._ending = True
            for process in self._at_work:
                _kill(process)

    def reopen(self) -> None:
        self._ending = False


_children = _Children()


@contextlib.contextmanager
def in_threads(pool: ThreadPoolExecutor) -> Iterator[ThreadPoolExecutor]:
    """Use a pool whose threads run commands, and kill the commands if the block fails.

    Without this, the pool would wait for the commands even after an interrupt, and so would this
    process.
    """
    try:
        with pool:
            try:
                yield pool
            except BaseException:
                _children.end_all()
                raise
    finally:
        _children.reopen()


def python_module(name: str) -> list[str]:
    """Return the start of a command that runs a module with this interpreter."""
    return [sys.executable, "-m", name]


def fairseq_module(name: str) -> list[str]:
    """Return the start of a command that runs a module with fairseq and this interpreter."""
    return [sys.executable, quick_start.__file__, name]


def run(
    command: list[str],
    log: Path,
    on_line: Callable[[str], None] = lambda line: None,
    *,
    append: bool = False,
    folder: Path | None = None,
    slot: Slot = WHOLE,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> None:
    """Run a command to its end.

    Args:
        command: the words of the command; no shell reads them.
        log: the file for the command and its output.
        on_line: called with each line, without the newline.
        folder: the folder to run the command in.
        append: whether to keep the log of an interrupted run, and to append to it.
        slot: the threads or GPUs of the command.
        environment: the environment variables; None: those of `threads_and_memory`.
        seconds: the time limit; None: no limit.

    Raises:
        PipelineError: the command failed; the message is its last error line. Or the time limit
            ended the command.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a" if append else "w", encoding="utf-8") as file:
        file.write(f"$ {' '.join(command)}\n")
        file.flush()
        with _children.start(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            errors="replace",
            cwd=folder,
            close_fds=False,  # the command inherits the run folder's lock, and no other file
            env={**_environment(slot, environment), **slot.environment},
        ) as process:
            try:
                with _ended_after(seconds, process) as ended:
                    for line in process.stdout or ():
                        file.write(line)
                        file.flush()
                        on_line(line.rstrip("\n"))
            except BaseException:
                _kill(process)
                raise
            finally:
                _children.ended(process)
    if ended.is_set():
        raise PipelineError("ended: the time limit was reached")
    if process.returncode != 0:
        raise PipelineError(reason(process.returncode, log))


def threads_and_memory(threads: int | None = None) -> dict[str, str]:
    """Return this process's environment, with variables that make torch fast on a CPU.

    A variable that the user has set keeps its value.

    Args:
        threads: torch's number of threads; None: torch decides.
    """
    return {
        # A single thread never waits for another thread.
        "OMP_WAIT_POLICY": "PASSIVE" if threads == 1 else wait_policy(),
        # By default glibc returns the memory of each freed large tensor to the system. Fetching it
        # again for the next tensor took a quarter of a small model's training time on a CPU.
        "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
        "MALLOC_MMAP_THRESHOLD_": str(1 << 30),
        **os.environ,
    }


@contextlib.contextmanager
def _ended_after(
    seconds: float | None, process: subprocess.Popen[str]
) -> Iterator[threading.Event]:
    """Kill a command that runs longer than this; yield the event that says so."""
    ended = threading.Event()

    def end() -> None:
        ended.set()
        _kill(process)

    timer = threading.Timer(seconds or 0, end)
    if seconds is not None:
        timer.start()
    try:
        yield ended
    finally:
        timer.cancel()


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a command and its child processes. A training has one child process per GPU."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
    process.kill()


def _environment(slot: Slot, given: Mapping[str, str] | None) -> dict[str, str]:
    return {
        # Hydra's short form of an error ends with advice instead of the error.
        "HYDRA_FULL_ERROR": "1",
        **(threads_and_memory(slot.threads) if given is None else given),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8",
    }


def wait_policy() -> str:
    """Return how threads wait for each other: ACTIVE (they spin) on idle cores, else PASSIVE.

    On two idle cores the demo's teacher made 9.1 updates a second with threads that spin, and 4.9
    with threads that sleep. But if another program runs, threads that spin are many times slower.
    """
    return "ACTIVE" if psutil.cpu_percent(interval=0.3) < IDLE else "PASSIVE"


def reason(returncode: int, log: Path) -> str:
    """Return the last error line of the log, or the signal that killed the command."""
    if returncode < 0:
        name = signal.Signals(-returncode).name
        hint = " (too little memory?)" if name == "SIGKILL" else ""
        return f"killed by {name}{hint}"
    lines = [line.strip() for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    errors = [line for line in lines if _EXCEPTION.match(line)]
    errors = errors or [line for line in lines if "error" in line.lower()] or lines
    return errors[-1]
