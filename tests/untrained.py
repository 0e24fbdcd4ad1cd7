"""Checkpoints of models that nobody trained: any architecture, within a second."""

from __future__ import annotations

from pathlib import Path

import torch
from omegaconf import OmegaConf

from tests.support import make_model, make_task


def write_checkpoint(data: Path, path: Path, *options: object):
    """Write a model as fairseq-train does, with the weights of its start.

    Args:
        data: what fairseq-preprocess wrote.
        path: the checkpoint's file.
        options: of fairseq-train.

    Returns:
        The task and the model.
    """
    task, cfg = make_task(data, *options)
    model = make_model(task, cfg).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.5)  # peaked distributions, normalizations and biases that matter
            parameter.add_(0.05 * torch.randn_like(parameter))
    state = {
        "args": None,
        "cfg": OmegaConf.to_container(cfg),
        "model": model.state_dict(),
        "criterion": None,
        "optimizer_history": [{"optimizer_name": "", "lr_scheduler_state": {}, "num_updates": 0}],
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": 1}},
    }
    torch.save(state, path)
    return task, model
