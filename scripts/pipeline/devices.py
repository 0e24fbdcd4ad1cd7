"""On how many GPUs a training runs, and the update frequency that keeps its batch."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import PipelineError

# Any free port; all nodes must know it beforehand.
_PORT = 29500


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
    import torch  # not above: a second that --help and the stages before the trainings do without

    return torch.cuda.device_count()


def _number(environ: Mapping[str, str], name: str) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not text.isdecimal() or int(text) < 1:
        raise PipelineError(f"{name}={text} is not a number from 1 up")
    return int(text)
