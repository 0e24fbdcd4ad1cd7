"""Divide this machine among stages: threads, or GPUs with a matching update frequency."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine import parallel
from pipeline.engine.errors import PipelineError

# A port that should be free. All nodes use the same number.
_PORT = 29500


@dataclass(frozen=True)
class Slot:
    """The part of the machine that a stage may use while other stages run.

    Attributes:
        gpus: GPUs, named as in CUDA_VISIBLE_DEVICES; None: all visible GPUs.
        threads: threads of each command of the stage; None: torch decides.
    """

    gpus: tuple[str, ...] | None = None
    threads: int | None = None

    @property
    def visible(self) -> int:
        """The number of GPUs that the stage's commands see on this node."""
        return visible_gpus() if self.gpus is None else len(self.gpus)

    @property
    def environment(self) -> dict[str, str]:
        """The environment variables that restrict a command to this slot."""
        variables = {}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.threads:
            threads = str(self.threads)
            variables |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return variables


WHOLE = Slot()
"""The whole machine."""


def slots(
    jobs: int | None,
    threads: int | None,
    trainings: Iterable[Mapping[str, Any]],
    environ: Mapping[str, str] | None = None,
    visible: int | None = None,
) -> list[Slot]:
    """Divide this machine among the stages that run at the same time.

    Args:
        jobs: the number of slots. None chooses the number. On a CPU this is the number of cores
            divided by `threads`. On GPUs this is the number of GPUs divided by the number that
            the most demanding training would use.
        threads: the threads of each slot. None takes OMP_NUM_THREADS, if it is set. Otherwise a
            slot on a CPU has one thread, and a slot on GPUs has an equal share of the cores. On a
            CPU, two trainings at the same time with one thread each take less time than two
            trainings one after the other with two threads.
        trainings: the settings of the trainings that will run.
        environ: the environment variables; by default those of this process.
        visible: the number of GPUs of this node; by default the number that torch finds.

    Raises:
        PipelineError: there are not enough GPUs, or the settings do not go together.
    """
    environ = os.environ if environ is None else environ
    visible = visible_gpus() if visible is None else visible
    threads = threads or _number(environ, "OMP_NUM_THREADS")
    wanted = [Devices.choose(settings, environ, visible) for settings in trainings]
    if any(devices.launcher for devices in wanted):
        if (jobs or 1) > 1:
            raise PipelineError("LAUNCHER starts each training on all nodes: give --jobs 1")
        return [Slot(threads=threads)]
    if not visible:
        threads = threads or 1
        return [Slot((), threads)] * (jobs or max(1, parallel.cores() // threads))
    jobs = jobs or visible // max([1, *(devices.gpus for devices in wanted)])
    each = visible // jobs
    if each < (_number(environ, "GPUS") or 1):
        raise PipelineError(
            f"--jobs {jobs} leaves {each} of this machine's {visible} GPUs for each training: "
            "choose fewer jobs, or a smaller GPUS"
        )
    named = environ.get("CUDA_VISIBLE_DEVICES")
    gpus = named.split(",") if named else [str(number) for number in range(visible)]
    threads = threads or max(1, parallel.cores() // jobs)
    return [Slot(tuple(gpus[n * each : (n + 1) * each]), threads) for n in range(jobs)]


@dataclass(frozen=True)
class Devices:
    """The devices of a training, as the environment sets them.

    Attributes:
        gpus: the number of GPUs over all nodes; 0 on a CPU.
        update_freq: the number of batches of each GPU in an update.
        launcher: the command that starts one process on each node (``LAUNCHER="srun ..."``); empty
            on one node.
    """

    gpus: int
    update_freq: int
    launcher: tuple[str, ...] = ()

    @classmethod
    def choose(
        cls,
        settings: Mapping[str, Any],
        environ: Mapping[str, str] | None = None,
        visible: int | None = None,
    ) -> Devices:
        """Read GPUS, UPDATE_FREQ and LAUNCHER, and return the devices of a training.

        The configs give ``optimization.update_freq`` for one GPU. This number is divided by the
        number of GPUs, so that an update sees as much text on one GPU as on eight. Without GPUS,
        the training uses the largest number of visible GPUs that divides ``update_freq``.

        Args:
            settings: the settings of the training.
            environ: the environment variables; by default those of this process.
            visible: the number of GPUs of this node; by default the number that torch finds.

        Raises:
            PipelineError: the numbers do not fit together.
        """
        environ = os.environ if environ is None else environ
        visible = visible_gpus() if visible is None else visible
        launcher = tuple(shlex.split(environ.get("LAUNCHER", "")))
        total = (settings.get("optimization.update_freq") or [1])[0]
        asked = _number(environ, "GPUS")
        frequency = _number(environ, "UPDATE_FREQ")
        if launcher and asked is None:
            raise PipelineError("LAUNCHER needs GPUS, the number of GPUs of all nodes together")
        if asked is not None and asked > visible and not launcher:
            raise PipelineError(
                f"GPUS={asked}, but this machine shows {visible}: give a smaller GPUS"
            )
        if frequency is not None:
            return cls(asked if asked is not None else visible, frequency, launcher)
        if asked is None:
            asked = max((n for n in range(1, visible + 1) if total % n == 0), default=0)
        elif total % asked:
            raise PipelineError(
                f"{asked} GPUs cannot share optimization.update_freq={total}: set GPUS to a "
                "divisor of this number, or set UPDATE_FREQ of each GPU, which changes the batch"
            )
        return cls(asked, total // max(asked, 1), launcher)

    @property
    def batches(self) -> int:
        """The number of batches in an update. The trained model depends on this number."""
        return max(self.gpus, 1) * self.update_freq

    def overrides(self) -> dict[str, Any]:
        """Return the settings that fairseq needs for these devices."""
        overrides: dict[str, Any] = {"optimization.update_freq": [self.update_freq]}
        if self.gpus:
            overrides["distributed_training.distributed_world_size"] = self.gpus
        if self.launcher:
            overrides["distributed_training.distributed_port"] = _PORT
        return overrides


def visible_gpus() -> int:
    """Return the number of GPUs that torch finds on this node."""
    if not made_for_gpus():
        return 0
    import torch  # imported here: it takes a second, and --help and early stages need no torch

    return torch.cuda.device_count()


def made_for_gpus() -> bool:
    """Return whether torch is a build for GPUs: read its version.py, without importing torch."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return True  # the import of torch then reports the error
    version = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return bool(version.get("cuda") or version.get("hip"))


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise PipelineError(f"{name}={text} is not a number from 1 up")
    return int(text)
