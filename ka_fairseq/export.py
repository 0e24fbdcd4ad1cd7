"""``python -m ka_fairseq.export learner.pt out.pt``: a checkpoint that plain fairseq takes.

Out of a checkpoint goes what only this package or only its own training needs: the teacher's
options, the criterion's, the optimizer's state (two thirds of the file) and the numpy values and
Namespaces for which torch >= 2.6 refuses the file unless somebody allow-lists them.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import DictConfig, OmegaConf

import ka_fairseq  # noqa: F401  checkpoints of this package name its task and criterions
from ka_fairseq import compat
from ka_fairseq.criterions.presets import TopKKLConfig
from ka_fairseq.criterions.transfer import TransferConfig
from ka_fairseq.criterions.transfer_criterion import TransferCriterionConfig
from ka_fairseq.errors import UserError
from ka_fairseq.tasks.frozen_teacher_task import FrozenTeacherConfig

PLAIN_TASKS = {
    "language_modeling_with_teacher": "language_modeling",
    "translation_with_teacher": "translation",
}
PLAIN_CRITERION = "label_smoothed_cross_entropy"
OWN_OPTIONS = {
    name
    for config in (FrozenTeacherConfig, TransferCriterionConfig, TopKKLConfig, TransferConfig)
    for name in config.__annotations__
}


def export(checkpoint: Path, target: Path) -> None:
    """Write a checkpoint anew, without what plain fairseq would stumble over.

    The model's weights and configuration stay as they are. The criterion becomes fairseq's
    label_smoothed_cross_entropy, with the same smoothing.

    Args:
        checkpoint: written by fairseq-train or fairseq-hydra-train, with or without this package.
        target: where to write; appears whole or not at all.

    Raises:
        UserError: the checkpoint cannot be read, or the target cannot be written.
    """
    state = checkpoint_utils.load_checkpoint_to_cpu(str(checkpoint))
    cfg = state.get("cfg")
    if state.get("args") is not None:
        cfg = convert_namespace_to_omegaconf(state["args"])
    if cfg is None:
        raise UserError(f"{checkpoint} has no configuration: give a file that fairseq-train wrote")
    exported = {
        "args": None,
        "cfg": _plain_config(cfg),
        "model": state["model"],
        "criterion": None,
        "optimizer_history": _plain(state["optimizer_history"]),
        "task_state": {},
        "extra_state": {"train_iterator": {"epoch": _epoch(state)}},
        "last_optimizer_state": None,
    }
    compat.save_whole(exported, str(target))


def _plain_config(cfg: DictConfig) -> dict[str, Any]:
    plain = _plain(OmegaConf.to_container(cfg))
    if plain["task"].get("_name") not in PLAIN_TASKS:
        return plain
    # fairseq-train keeps the whole command line once more beside the model's own options.
    for section in ("task", "criterion", "model"):
        plain[section] = {k: v for k, v in plain[section].items() if k not in OWN_OPTIONS}
    for option in ("task", "criterion", "user_dir"):
        plain["model"].pop(option, None)
    plain["task"]["_name"] = PLAIN_TASKS[plain["task"]["_name"]]
    plain["criterion"]["_name"] = PLAIN_CRITERION
    plain["common"]["user_dir"] = None
    return plain


def _plain(value: Any) -> Any:
    """Namespaces as dictionaries and numpy scalars as numbers, however deep."""
    if isinstance(value, argparse.Namespace):
        value = vars(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(item) for item in value)
    return value.item() if hasattr(value, "item") else value


def _epoch(state: Mapping[str, Any]) -> int:
    return state.get("extra_state", {}).get("train_iterator", {}).get("epoch", 1)


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.export",
        description="Write a checkpoint that plain fairseq loads, without --user-dir.",
    )
    parser.add_argument("checkpoint", type=Path, help="written by fairseq-train")
    parser.add_argument("target", type=Path, help="file to write")
    args = parser.parse_args()
    export(args.checkpoint, args.target)


if __name__ == "__main__":
    main()
