"""``--select``: apply the divergence to high-loss tokens only, and keep a window of past losses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.dataclass import FairseqDataclass
from fairseq.distributed import utils as distributed_utils
from torch import Tensor

from ka_fairseq.loss.hard_positions import HardPositions
from ka_fairseq.ranges import Range

SELECTIONS = ("all", "hard-batch", "hard-global")

# The window's key in the task's state. Checkpoints save this state.
KEY = "nll_window"


@dataclass
class SelectionOptions(FairseqDataclass):
    """Options for the positions of D in training; validation computes D at all positions."""

    select: str = field(
        default="all",
        metadata={
            "help": f"target positions where D counts in training: {', '.join(SELECTIONS)}; a hard "
            f"position has a student NLL at or above the quantile, which is taken over the batch "
            f"(hard-batch) or over the last positions (hard-global)",
            "valid": SELECTIONS,
        },
    )
    select_quantile: float = field(
        default=0.5,
        metadata={
            "help": "r in [0, 1): the quantile of --select; 0.5 applies D to half of the positions",
            "valid": Range(0, 1, without_most=True),
        },
    )
    select_window: int = field(
        default=30000,
        metadata={
            "help": "hard-global: number of last positions that the quantile is taken over",
            "valid": Range(1),
        },
    )


class Selection:
    """Make a :class:`HardPositions` for each batch; keep past NLLs for ``hard-global``.

    The window's threshold comes from earlier updates. So all workers and all batches of an update
    have the same threshold, and nothing is computed twice. All workers keep the same window: after
    each update, the NLLs of all workers are gathered.
    """

    def __init__(self, cfg: SelectionOptions, task: Any) -> None:
        """Read the options.

        Args:
            cfg: has the fields of :class:`SelectionOptions`.
            task: its state holds the window.
        """
        # Read by key: OmegaConf 2.0, which the official fairseq needs, has a method ``select``.
        self.kind = cfg["select"] if isinstance(cfg, Mapping) else cfg.select
        self.share, self.length = cfg.select_quantile, cfg.select_window
        self.task = task
        self.met: list[Tensor] = []

    def hard_positions(self, device: torch.device) -> HardPositions | None:
        """Return an object for a batch on this device; None if D counts everywhere."""
        if self.kind == "all":
            return None
        window = self._window(device) if self.kind == "hard-global" else None
        return HardPositions(self.share, window)

    def begin_update(self) -> None:
        """Forget the NLLs of an attempted update that failed.

        When half precision overflows, fairseq skips the batches or tries them again.
        """
        self.met = []

    def meet(self, hard: HardPositions) -> None:
        """Remember the NLLs that a batch's loss computed."""
        if self.kind == "hard-global":
            self.met.append(hard.nll.float())

    def end_update(self, device: torch.device) -> None:
        """Add the update's NLLs to the window. All workers must call this together."""
        if self.kind != "hard-global":
            return
        found = torch.cat(self.met) if self.met else torch.empty(0, device=device)
        self.met = []
        window = torch.cat([self._window(device), _of_all_workers(found)])
        # Copy the slice: a checkpoint would save the whole tensor that the slice belongs to.
        self.task.state.merge_state_dict({KEY: window[-self.length :].clone()})

    def _window(self, device: torch.device) -> Tensor:
        kept = self.task.state.state_dict.get(KEY)
        return torch.empty(0, device=device) if kept is None else kept.to(device)


def _of_all_workers(found: Tensor) -> Tensor:
    """Return the NLLs of all workers, concatenated in the order of the workers."""
    group = distributed_utils.get_data_parallel_group()
    if distributed_utils.get_world_size(group) == 1:
        return found
    length = torch.tensor([len(found)], device=found.device)
    lengths = [int(each) for each in distributed_utils.all_gather(length, group)]
    filled = found.new_zeros(max(lengths))
    filled[: len(found)] = found
    parts = distributed_utils.all_gather(filled, group)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
