"""Write a checkpoint that plain fairseq loads.

The export leaves out entries that only this package or the training needs: the options of the
teacher and of the criterion, and the optimizer's state (two thirds of the file). It also replaces
numpy values and Namespaces, which torch >= 2.6 refuses without an allow-list.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

import ka_fairseq
from ka_fairseq import hardening
from ka_fairseq.errors import UserError

PLAIN_TASKS = {
    "language_modeling_with_teacher": "language_modeling",
    "translation_with_teacher": "translation",
}
PLAIN_CRITERION = "label_smoothed_cross_entropy"


def _own_options(configs: Iterable[type]) -> set[str]:
    """Return the fields that this package adds to the dataclasses of fairseq."""
    package = ka_fairseq.__name__
    return {
        name
        for config in configs
        for base in config.__mro__
        if base.__module__.partition(".")[0] == package
        for name in base.__annotations__
        if name != "seed"  # fairseq's own option, which our dataclasses declare too
    }


OWN_CRITERIONS = {
    name for name, config in CRITERION_DATACLASS_REGISTRY.items() if _own_options([config])
}
OWN_OPTIONS = _own_options(
    [*CRITERION_DATACLASS_REGISTRY.values(), *TASK_DATACLASS_REGISTRY.values()]
)
FOLDERS = ("data", "save_dir", "finetune_from_model", "user_dir")
"""Options that name folders and files on the training machine."""


def export(checkpoint: Path, target: Path, *, half: bool = False, folders: bool = True) -> None:
    """Write a copy of a checkpoint that plain fairseq can load.

    Weights and configuration stay unchanged except for `half` and `folders`. The criterion becomes
    fairseq's label_smoothed_cross_entropy, with the same smoothing.

    Args:
        checkpoint: written by fairseq-train or fairseq-hydra-train, with or without this package.
        target: the file to write; it appears complete or not at all.
        half: round the weights to fp16, which halves the file; fairseq loads such a file as usual.
        folders: keep the names of the folders that the training used.

    Raises:
        UserError: the checkpoint cannot be read, or the target cannot be written.
    """
    state, cfg = load(checkpoint)
    exported = {
        "args": None,
        "cfg": cfg if folders else _without_folders(cfg),
        "model": _halved(state["model"]) if half else state["model"],
        "criterion": None,
        "optimizer_history": _plain(state["optimizer_history"]),
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": _epoch(state)}},
        "last_optimizer_state": None,
    }
    hardening.save_whole(exported, str(target))


def load(checkpoint: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a checkpoint, and return its configuration in the form that plain fairseq writes.

    Args:
        checkpoint: written by fairseq-train or fairseq-hydra-train, with or without this package.

    Returns:
        The checkpoint's state, and the configuration in plain containers.

    Raises:
        UserError: the checkpoint cannot be read, or has no configuration.
    """
    state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    cfg = state.get("cfg")
    if state.get("args") is not None:
        cfg = convert_namespace_to_omegaconf(state["args"])
    if cfg is None:
        raise UserError(f"{checkpoint} has no configuration: give a file that fairseq-train wrote")
    return state, _plain_config(cfg)


def _plain_config(cfg: DictConfig) -> dict[str, Any]:
    plain = _plain(OmegaConf.to_container(cfg))
    task = plain["task"].get("_name")
    criterion = plain.get("criterion") or {}  # an old checkpoint may have no criterion
    if task not in PLAIN_TASKS and criterion.get("_name") not in OWN_CRITERIONS:
        return plain
    # fairseq-train also stores the whole command line among the model's options.
    for section in ("task", "criterion", "model"):
        plain[section] = {k: v for k, v in plain[section].items() if k not in OWN_OPTIONS}
    for option in ("task", "criterion", "user_dir"):
        plain["model"].pop(option, None)
    plain["task"]["_name"] = PLAIN_TASKS.get(task, task)
    plain["criterion"]["_name"] = PLAIN_CRITERION
    plain["common"]["user_dir"] = None
    return plain


def _without_folders(cfg: dict[str, Any]) -> dict[str, Any]:
    for section in (section for section in cfg.values() if isinstance(section, dict)):
        section.update(dict.fromkeys(set(FOLDERS) & set(section)))
    cfg.pop("job_logging_cfg", None)  # Hydra's settings, which hold the path of its log
    return cfg


def _halved(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights in fp16; a tensor with several names (mostly embeddings) stays shared."""
    made: dict[tuple[int, torch.Size], Tensor] = {}
    for tensor in weights.values():
        if tensor.is_floating_point():
            made.setdefault((tensor.data_ptr(), tensor.shape), tensor.half())
    return {
        name: made.get((tensor.data_ptr(), tensor.shape), tensor)
        for name, tensor in weights.items()
    }


def _plain(value: Any) -> Any:
    """Turn Namespaces into dictionaries and numpy scalars into numbers, at any depth."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value.item() if hasattr(value, "item") else value


def _epoch(state: Mapping[str, Any]) -> int:
    return state.get("extra_state", {}).get("train_iterator", {}).get("epoch", 1)
