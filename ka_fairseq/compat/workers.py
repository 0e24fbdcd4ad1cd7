"""Several workers, on CPUs too."""

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
    """Let the first worker hand the checkpoint that it read on to the others.

    fairseq wraps it in torch.save and torch.load, and torch >= 2.6 refuses what arrives (a
    checkpoint holds an omegaconf configuration by then), so that several workers could start from
    no checkpoint at all. What arrives is not the file: it comes out of the memory of a worker of
    the same run, which has read the file with ``weights_only=True``.
    """
    distributed_utils._broadcast_object_slow = _broadcast_object


class _DistributedDataParallel(DistributedDataParallel):
    def __init__(self, module: torch.nn.Module, **options: Any) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            options |= {"device_ids": None, "output_device": None}
        super().__init__(module, **options)


def let_workers_run_on_cpus() -> None:
    """Leave the number of the GPU out where there is none.

    With --ddp-backend pytorch_ddp, the default, fairseq names GPU 0 to torch even with --cpu, and
    torch stops there.
    """
    distributed_fairseq_model.DistributedDataParallel = _DistributedDataParallel
