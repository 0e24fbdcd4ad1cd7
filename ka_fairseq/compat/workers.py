"""Let several workers resume from a checkpoint, and train on CPUs."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from fairseq.distributed import utils as distributed_utils
from fairseq.models import distributed_fairseq_model
from torch.nn.parallel import DistributedDataParallel


def _broadcast_object(obj: Any, src_rank: int, group: Any, dist_device: torch.device) -> Any:
    received = [obj]
    dist.broadcast_object_list(received, src=src_rank, group=group, device=dist_device)
    return received[0]


def let_workers_share_a_checkpoint() -> None:
    """Let the first worker send the checkpoint that it read to the other workers.

    fairseq sends the checkpoint with torch.save and torch.load. torch >= 2.6 refuses to load it,
    because the checkpoint holds an omegaconf configuration by then. So several workers could not
    start from a checkpoint. The patch sends the object without torch.load's check. This is safe:
    the object comes from the memory of a worker of the same run, which has read the file with
    ``weights_only=True``.
    """
    distributed_utils._broadcast_object_slow = _broadcast_object


class _DistributedDataParallel(DistributedDataParallel):
    def __init__(self, module: torch.nn.Module, **options: Any) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            options |= {"device_ids": None, "output_device": None}
        super().__init__(module, **options)


def let_workers_run_on_cpus() -> None:
    """Pass no GPU number to torch if the model is on a CPU.

    With --ddp-backend pytorch_ddp, the default, fairseq passes GPU 0 to torch even with --cpu.
    torch then stops with an error.
    """
    distributed_fairseq_model.DistributedDataParallel = _DistributedDataParallel
