"""What a task of an srun is told of its training, as SLURM's variables say it."""

from __future__ import annotations

import pytest
import torch
from fairseq.distributed import utils as distributed_utils
from omegaconf import OmegaConf

from ka_fairseq.errors import UserError

SCONTROL = """#!/bin/sh
[ "$2" = hostnames ] && echo no-such-node.invalid || echo "NodeName=x NodeAddr=127.0.0.7 Port=1"
"""


@pytest.fixture
def infer(tmp_path, monkeypatch):
    """The second of two tasks, and what fairseq finds of its training."""
    (tmp_path / "scontrol").write_text(SCONTROL)
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    step = {"STEP_NODELIST": "n[1-2]", "NTASKS": "2", "PROCID": "1", "JOB_ID": "9", "STEP_ID": "0"}
    for name, value in step.items():
        monkeypatch.setenv(f"SLURM_{name}", value)

    def infer(world=2, **changes):
        cfg = {"distributed_init_method": None, "tpu": False, "pipeline_model_parallel": False}
        cfg |= {"distributed_world_size": world, "distributed_port": -1, "distributed_rank": 0}
        cfg |= {"distributed_no_spawn": False, "device_id": 5, "distributed_backend": "nccl"}
        cfg = OmegaConf.create(cfg | changes)
        distributed_utils.infer_init_method(cfg)
        return cfg

    return infer


def test_without_gpus_each_task_is_a_worker(infer):
    cfg = infer()
    assert (cfg.distributed_rank, cfg.device_id, cfg.distributed_no_spawn) == (1, 0, True)
    assert cfg.distributed_backend == "gloo"
    # The name does not resolve, so it is the address that SLURM has; the port is every task's.
    assert cfg.distributed_init_method == f"tcp://127.0.0.7:{cfg.distributed_port}"
    assert infer().distributed_port == cfg.distributed_port
    assert infer(distributed_port=4321).distributed_init_method == "tcp://127.0.0.7:4321"


def test_another_step_has_another_port(infer, monkeypatch):
    first = infer().distributed_port
    monkeypatch.setenv("SLURM_STEP_ID", "1")
    assert infer().distributed_port != first


def test_another_number_of_workers_than_tasks(infer):
    with pytest.raises(UserError, match=r"size is 4, and srun started 2 tasks"):
        infer(world=4)


def test_where_there_are_gpus_it_is_fairseqs_own(infer, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "1")
    monkeypatch.setenv("SLURM_NODEID", "1")
    cfg = infer(world=8, distributed_port=4321)
    assert (cfg.distributed_world_size, cfg.distributed_rank, cfg.distributed_num_procs) == (
        8,
        4,
        4,
    )
    assert cfg.distributed_backend == "nccl"
