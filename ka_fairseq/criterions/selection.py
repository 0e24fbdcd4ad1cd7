"""``--select``: the divergence applies to high-loss tokens only; past losses are kept for that."""

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

# In the task's state, which checkpoints keep.
KEY = "nll_window"


@dataclass
class SelectionOptions(FairseqDataclass):
    """Which positions D is taken at in training; validation takes it at all."""

    select: str = field(
        default="all",
        metadata={
            "help": f"where D counts in training: {', '.join(SELECTIONS)}; hard is where the "
            f"learner's NLL is at or above the quantile, of the batch or of the last positions",
            "valid": SELECTIONS,
        },
    )
    select_quantile: float = field(
        default=0.5,
        metadata={
            "help": "r in [0, 1): that quantile; 0.5 leaves D half of the positions",
            "valid": Range(0, 1, without_most=True),
        },
    )
    select_window: int = field(
        default=30000,
        metadata={
            "help": "hard-global: how many of the last positions the quantile is of",
            "valid": Range(1),
        },
    )


class Selection:
    """Makes a :class:`HardPositions` for each batch; with a window, remembers NLLs between updates.

    The threshold is that of the updates before, so that several workers, or several batches an
    update, see the same one, and nothing is computed twice. All workers keep the same window: what
    each has met in an update is gathered at its end.
    """

    def __init__(self, cfg: SelectionOptions, task: Any) -> None:
        """Take the options.

        Args:
            cfg: with :class:`SelectionOptions`.
            task: whose state holds the window.
        """
        # By its key: OmegaConf 2.0, which the official fairseq has, has a method of this name.
        self.kind = cfg["select"] if isinstance(cfg, Mapping) else cfg.select
        self.share, self.length = cfg.select_quantile, cfg.select_window
        self.task = task
        self.met: list[Tensor] = []

    def hard_positions(self, device: torch.device) -> HardPositions | None:
        """For a batch on a device; None where D counts everywhere."""
        if self.kind == "all":
            return None
        window = self._window(device) if self.kind == "hard-global" else None
        return HardPositions(self.share, window)

    def begin_update(self) -> None:
        """Forget what was met in an attempt at an update that came to nothing.

        Where half precision overflows, fairseq leaves the batches out, or tries them once more.
        """
        self.met = []

    def meet(self, hard: HardPositions) -> None:
        """Remember what a batch's loss has found."""
        if self.kind == "hard-global":
            self.met.append(hard.nll.float())

    def end_update(self, device: torch.device) -> None:
        """Move the window on. All workers call this together."""
        if self.kind != "hard-global":
            return
        found = torch.cat(self.met) if self.met else torch.empty(0, device=device)
        self.met = []
        window = torch.cat([self._window(device), _of_all_workers(found)])
        # A copy: a checkpoint would keep all that a slice is a part of.
        self.task.state.merge_state_dict({KEY: window[-self.length :].clone()})

    def _window(self, device: torch.device) -> Tensor:
        kept = self.task.state.state_dict.get(KEY)
        return torch.empty(0, device=device) if kept is None else kept.to(device)


def _of_all_workers(found: Tensor) -> Tensor:
    """What all workers have found, one worker's behind the other's."""
    group = distributed_utils.get_data_parallel_group()
    if distributed_utils.get_world_size(group) == 1:
        return found
    length = torch.tensor([len(found)], device=found.device)
    lengths = [int(each) for each in distributed_utils.all_gather(length, group)]
    filled = found.new_zeros(max(lengths))
    filled[: len(found)] = found
    parts = distributed_utils.all_gather(filled, group)
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
