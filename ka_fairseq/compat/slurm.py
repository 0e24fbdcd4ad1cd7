"""Make the tasks of a SLURM step the workers of one training, on CPUs too."""

from __future__ import annotations

import logging
import os
import random
import re
import socket
import subprocess
from collections.abc import Callable
from typing import Any

import torch
from fairseq.distributed import utils as distributed_utils

from ka_fairseq.errors import UserError

logger = logging.getLogger(__name__)


def _scontrol(*words: str) -> str:
    return subprocess.check_output(["scontrol", "show", *words], text=True)


def _address(host: str) -> str:
    """Return a node's address: its name if the name resolves, else the address from SLURM."""
    try:
        socket.gethostbyname(host)
    except OSError:
        found = re.search(r"NodeAddr=(\S+)", _scontrol("node", host, "--oneliner"))
        return found.group(1) if found else host
    return host


def _one_worker_a_task(infer: Callable[..., bool]) -> Callable[..., bool]:
    def infer_slurm_init(cfg: Any, num_pipelines_per_node: int | None) -> bool:
        step = os.environ.get("SLURM_STEP_NODELIST")
        if torch.cuda.device_count() or step is None:
            return infer(cfg, num_pipelines_per_node)
        tasks = int(os.environ["SLURM_NTASKS"])
        if tasks != cfg.distributed_world_size:
            raise UserError(
                f"--distributed-world-size is {cfg.distributed_world_size}, and srun started "
                f"{tasks} tasks: without GPUs each task is one worker, so give the same number"
            )
        if cfg.distributed_port <= 0:
            # All tasks of a step use the same port; other steps on the nodes use another port.
            seed = f"{os.environ['SLURM_JOB_ID']}.{os.environ['SLURM_STEP_ID']}"
            cfg.distributed_port = random.Random(seed).randint(10_000, 60_000)
        master = _address(_scontrol("hostnames", step).split()[0])
        cfg.distributed_init_method = f"tcp://{master}:{cfg.distributed_port}"
        cfg.distributed_rank = int(os.environ["SLURM_PROCID"])
        cfg.distributed_no_spawn = True
        cfg.device_id = 0
        if cfg.distributed_backend == "nccl":  # the default, which needs GPUs
            cfg.distributed_backend = "gloo"
        logger.info(f"worker {cfg.distributed_rank} of {tasks} at {cfg.distributed_init_method}")
        return True

    infer_slurm_init.knows_cpus = True  # type: ignore[attr-defined]
    return infer_slurm_init


def let_tasks_train_together_on_cpus() -> None:
    """Make each task of an srun a worker on nodes without GPUs.

    fairseq starts one process per GPU of a node. Without a GPU one of two things happens: fairseq
    starts no process and ends at once with exit status 0. Or one task fails to set a CUDA device,
    and the other tasks wait.
    """
    if not hasattr(distributed_utils._infer_slurm_init, "knows_cpus"):
        distributed_utils._infer_slurm_init = _one_worker_a_task(
            distributed_utils._infer_slurm_init
        )
