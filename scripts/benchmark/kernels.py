"""Find the kernels of a GPU, or operators of a CPU, that take the most time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity

from benchmark.cases import Run

TOP = 8


@dataclass(frozen=True)
class Kernel:
    """A kernel or operator, over some runs.

    Attributes:
        name: the profiler's name.
        calls: calls a run.
        ms: milliseconds a run in the kernel itself, without the kernels that it calls.
        share: share of the time of all kernels, or operators, in percent.
    """

    name: str
    calls: float
    ms: float
    share: float


def top(runs: Sequence[Run], device: torch.device, count: int = TOP) -> list[Kernel]:
    """Return the kernels that took the most time of the device, the largest first.

    Args:
        runs: the functions to profile; each runs once.
        device: the device to profile.
        count: the number of kernels to return.
    """
    found = [(own_time(event, device), event) for event in _events(runs, device)]
    found = sorted(((us, event) for us, event in found if us > 0), key=lambda pair: -pair[0])
    total = sum(us for us, _ in found)
    return [
        Kernel(event.key, event.count / len(runs), us / 1e3 / len(runs), 100 * us / total)
        for us, event in found[:count]
    ]


def own_time(event: Any, device: torch.device) -> float:
    """Return the microseconds of a profiler's average; 0 for events of the other device."""
    if device.type == "cpu":
        return event.self_cpu_time_total
    if event.device_type != DeviceType.CUDA:
        return 0  # an operator: the profiler counts its kernels' time again in the operator
    with contextlib.suppress(AttributeError):
        return event.self_device_time_total
    return event.self_cuda_time_total  # the attribute's name before torch 2.4


def _events(runs: Sequence[Run], device: torch.device) -> Iterator[Any]:
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as profiler:
        for run in runs:
            run()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    yield from profiler.key_averages()
