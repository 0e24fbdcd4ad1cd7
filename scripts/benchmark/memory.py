"""Measure the most memory that a process, or torch on a GPU, has held since a reset."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
import resource
from pathlib import Path

import psutil
import torch

_PROCESS = Path("/proc/self")


def release(device: torch.device) -> None:
    """Return freed memory to the system.

    Otherwise a step's tensors would fit into memory that the loading of a checkpoint left behind,
    and the measurement would miss them.
    """
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        return
    with contextlib.suppress(OSError, AttributeError):  # only glibc has malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def reset(device: torch.device) -> None:
    """Reset the peak to the memory held now."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # only Linux has this file
        (_PROCESS / "clear_refs").write_text("5", encoding="ascii")


def held(device: torch.device) -> int:
    """Return the bytes held now: resident, or allocated by torch on the GPU."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return psutil.Process().memory_info().rss


def peak(device: torch.device) -> int:
    """Return the most bytes held since :func:`reset`, or since the start if there is no reset."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    # Prefer this to getrusage's ru_maxrss, which starts with the parent's memory.
    with contextlib.suppress(OSError):
        status = (_PROCESS / "status").read_text(encoding="ascii")
        if found := re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE):
            return 1024 * int(found.group(1))
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
