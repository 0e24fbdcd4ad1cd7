"""Commands of Python that begin at once: forked from a process that has imported what they import.

That process has done nothing but import what fairseq-train imports, which takes longer than the
training of a tiny model. Scripts find the commands on a search path: a small program asks for the
command (`tests/forked_command.py`), and gets its files, its folder and its environment.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import multiprocessing
import os
import runpy
import shlex
import shutil
import socket
import sys
import tempfile
from multiprocessing.connection import wait
from pathlib import Path

import torch

QUICK_START = Path(__file__).parents[1] / "scripts" / "pipeline" / "engine" / "quick_start.py"
COMMANDS = (
    "python",
    *("fairseq-eval-lm", "fairseq-generate", "fairseq-hydra-train", "fairseq-interactive"),
    *("fairseq-preprocess", "fairseq-score", "fairseq-train", "fairseq-validate"),
)


def context() -> multiprocessing.context.BaseContext:
    """Makes processes that have imported what commands import."""
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload(["tests.preloaded"])
    return forking


def run_here(words: list[str]) -> None:
    """Run a command in this process: one of fairseq, or ``python -m MODULE``."""
    command, *arguments = words
    if command == "python":
        _, module, *arguments = arguments  # after -m
        start = functools.partial(runpy.run_module, module, run_name="__main__", alter_sys=True)
    else:
        # Not above: importing them sets up logging, which is no business of the tests' own process.
        name = command.removeprefix("fairseq-").replace("-", "_")
        start = importlib.import_module(f"fairseq_cli.{name}").cli_main
    # This process was told to fork from the one that imports; a user's forks its workers itself.
    multiprocessing.set_start_method(None, force=True)
    sys.argv = [command, *arguments]
    torch.set_num_threads(1)
    start()


@functools.cache
def folder_of_commands() -> Path:
    """A folder of a search path with the commands, for as long as this process lives.

    Its ``python`` forks modules of fairseq, this package and the benchmark, and no others.
    """
    folder = Path(tempfile.mkdtemp(prefix="ka-commands-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen()
    server = context().Process(target=_serve, args=(listening,))
    server.start()
    listening.close()  # the server has it
    atexit.register(server.kill)  # before multiprocessing waits for its end
    program = [sys.executable, "-IS", Path(__file__).with_name("forked_command.py")]
    words = shlex.join(map(str, [*program, folder / "socket"]))
    script = folder / "command"
    script.write_text(f'#!/bin/sh\nexec {words} "${{0##*/}}" "$@"\n', encoding="utf-8")
    script.chmod(0o755)
    for name in COMMANDS:
        (folder / name).symlink_to(script)
    return folder


def module_line(name: str) -> list[str]:
    """The start of a command that runs a module, forked."""
    return [str(folder_of_commands() / "python"), "-m", name]


def _serve(listening: socket.socket) -> None:
    forking = multiprocessing.get_context("fork")
    while True:
        connection, _ = listening.accept()
        forking.Process(target=_answer, args=(connection,)).start()
        connection.close()


def _answer(connection: socket.socket) -> None:
    """Run what is asked for, and say how it ended; end it where nobody waits any more."""
    _, descriptors, *_ = socket.recv_fds(connection, 1, 3)
    with connection.makefile("rb") as file:
        asked = json.loads(file.readline())
    forking = multiprocessing.get_context("fork")
    process = forking.Process(target=_run_asked, args=(asked, descriptors))
    process.start()
    for descriptor in descriptors:
        os.close(descriptor)
    if process.sentinel not in wait([process.sentinel, connection]):
        process.kill()
    process.join()
    connection.sendall(str(process.exitcode).encode())


def _run_asked(asked: dict, descriptors: list[int]) -> None:
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    sys.path.insert(0, asked["folder"])  # as with -m
    run_here(asked["words"])
