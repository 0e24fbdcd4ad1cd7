"""What of this machine a stage gets: threads, or GPUs and the update frequency to go with them."""

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

# Any free port; all nodes must know it beforehand.
_PORT = 29500


@dataclass(frozen=True)
class Slot:
    """What a stage may use while others run beside it.

    Attributes:
        gpus: as CUDA_VISIBLE_DEVICES has them; None: all that are visible.
        threads: of each of its commands; None: torch decides.
    """

    gpus: tuple[str, ...] | None = None
    threads: int | None = None

    @property
    def visible(self) -> int:
        """How many GPUs its commands see on this node."""
        return visible_gpus() if self.gpus is None else len(self.gpus)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that keep a command to its slot."""
        variables = {}
        if self.gpus:
            variables["CUDA_VISIBLE_DEVICES"] = ",".join(self.gpus)
        if self.threads:
            threads = str(self.threads)
            variables |= {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return variables


def slots(
    jobs: int | None,
    threads: int | None,
    trainings: Iterable[Mapping[str, Any]],
    environ: Mapping[str, str] | None = None,
    visible: int | None = None,
) -> list[Slot]:
    """Divide this machine among as many stages as run at the same time.

    Args:
        jobs: how many; None: a thread each, or as many GPUs each as the most demanding training
            would take for itself.
        threads: of each; None: OMP_NUM_THREADS, or on a CPU one, as two trainings with a thread
            each get more done than one with two, and on GPUs an equal share of the cores.
        trainings: the settings of those that are to run.
        environ: of this process by default.
        visible: GPUs of this node; found out by default.

    Raises:
        PipelineError: there are not as many GPUs.
    """
    environ = os.environ if environ is None else environ
    visible = visible_gpus() if visible is None else visible
    threads = threads or _number(environ, "OMP_NUM_THREADS")
    wanted = [Devices.choose(settings, environ, visible) for settings in trainings]
    if any(devices.launcher for devices in wanted):
        if (jobs or 1) > 1:
            raise PipelineError("LAUNCHER starts a training on all nodes: it goes with --jobs 1")
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
    """What the environment asks for.

    Attributes:
        gpus: over all nodes; 0 on a CPU.
        update_freq: batches that each GPU adds up before an update.
        launcher: starts one process on each node (``LAUNCHER="srun ..."``); empty on one node.
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
        """Read GPUS, UPDATE_FREQ and LAUNCHER.

        The configs give ``optimization.update_freq`` for one GPU. It is divided by the number of
        GPUs, so that an update sees as much text on one as on eight. Without GPUS as many are used
        as divide it.

        Args:
            settings: of the training.
            environ: of this process by default.
            visible: GPUs of this node; found out by default.

        Raises:
            PipelineError: the numbers do not fit.
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
            raise PipelineError(f"GPUS={asked}, but this machine shows {visible}")
        if frequency is not None:
            return cls(asked if asked is not None else visible, frequency, launcher)
        if asked is None:
            asked = max((n for n in range(1, visible + 1) if total % n == 0), default=0)
        elif total % asked:
            raise PipelineError(
                f"{asked} GPUs cannot share optimization.update_freq={total}: choose a GPUS that "
                "divides it, or set UPDATE_FREQ (each GPU's) and with it another batch"
            )
        return cls(asked, total // max(asked, 1), launcher)

    @property
    def batches(self) -> int:
        """How many batches an update sees; what a trained model depends on."""
        return max(self.gpus, 1) * self.update_freq

    def overrides(self) -> dict[str, Any]:
        """Return what fairseq is to be told."""
        overrides: dict[str, Any] = {"optimization.update_freq": [self.update_freq]}
        if self.gpus:
            overrides["distributed_training.distributed_world_size"] = self.gpus
        if self.launcher:
            overrides["distributed_training.distributed_port"] = _PORT
        return overrides


def visible_gpus() -> int:
    """Return how many GPUs torch finds on this node."""
    if not made_for_gpus():
        return 0
    import torch  # not above: a second that --help and the stages before the trainings do without

    return torch.cuda.device_count()


def made_for_gpus() -> bool:
    """Whether this torch is a build for GPUs: its version.py says so, and nothing is imported."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return True  # it says itself what is wrong
    version = runpy.run_path(str(Path(found.origin).with_name("version.py")))
    return bool(version.get("cuda") or version.get("hip"))


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise PipelineError(f"{name}={text} is not a number from 1 up")
    return int(text)
