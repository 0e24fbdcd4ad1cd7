"""Describe the machine and software behind a report: hardware, versions and the commit."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

import torch

from pipeline.engine import state
from pipeline.models.settings import REPOSITORY, Pair

_PACKAGES = (
    "torch",
    "ve-fairseq",
    "fairseq",
    "sacrebleu",
    "scipy",
    "sentencepiece",
    "ctranslate2",
)


def facts(threads: str = "") -> dict[str, str]:
    """Return hardware, versions and the commit, each as a line of text.

    Args:
        threads: the number of threads as text, as of `threads_of`; by default this process's.
    """
    versions = [f"{name} {version}" for name in _PACKAGES if (version := _version(name))]
    had = threads or f"{torch.get_num_threads()} threads"
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    found = {
        "Hardware": ", ".join([_processor(), f"{os.cpu_count()} CPU cores, {had}", *gpus]),
        "Versions": ", ".join([f"Python {platform.python_version()}", *versions]),
    }
    if commit := _commit():
        found["Commit"] = commit
    return found


def threads_of(pair: Pair, trainings: Iterable[str]) -> str:
    """Return the number of threads of these trainings as text; empty if it is not known."""
    found = {state.facts(pair.files.run_dir, name).get("threads") for name in trainings} - {None}
    noun = "thread" if found == {1} else "threads"
    return f"{' or '.join(map(str, sorted(found)))} {noun} a training" if found else ""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:  # not Linux
        pass
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(REPOSITORY), "rev-parse", "--short", "HEAD"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git
        return ""
    return result.stdout.strip() if result.returncode == 0 else ""
