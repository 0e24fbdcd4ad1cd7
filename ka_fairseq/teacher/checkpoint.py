"""Load one of a teacher's checkpoints, and check that the checkpoint fits the student's task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fairseq import checkpoint_utils, models, utils
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import (
    BaseFairseqModel,
    FairseqEncoderDecoderModel,
    FairseqLanguageModel,
)
from omegaconf import DictConfig, open_dict
from torch import nn

import ka_fairseq.compat
import ka_fairseq.hardening  # noqa: F401  checkpoints are loaded here
from ka_fairseq import task_traits
from ka_fairseq.errors import UserError


def load_member(path: str, task: Any, data: str | None) -> BaseFairseqModel:
    """Return the model of one checkpoint.

    Args:
        path: the checkpoint.
        task: the student's task.
        data: folder of the teacher's dictionaries; None searches, see :meth:`FrozenTeacher.load`.

    Raises:
        UserError: the checkpoint cannot be read, or does not fit the task.
    """
    if not path:
        raise UserError("--teacher-path has an empty name in it: give teacher.pt[:teacher2.pt…]")
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    cfg = _config(state, path)
    _check_architecture(cfg.model, task, path)
    for file, dictionary in task_traits.dictionaries(task):
        _check_dictionary(path, cfg, data, file, dictionary)
    _forget_embedding_files(cfg.model)
    try:
        # Not task.build_model: TranslationTask would replace its generator for validation BLEU by a
        # generator of the teacher.
        model = models.build_model(cfg.model, task, from_checkpoint=True)
        model.load_state_dict(state["model"], strict=True, model_cfg=cfg.model)
    except RuntimeError as error:
        raise UserError(
            f"the weights in {path} do not fit its own configuration and the dictionary of "
            f"{len(task.target_dictionary)} types: {error}"
        ) from error
    _check_positions(model, task, path)
    return model


def _config(state: Mapping[str, Any], path: str) -> DictConfig:
    if state.get("args") is not None:
        return convert_namespace_to_omegaconf(state["args"])
    if state.get("cfg") is not None:
        return state["cfg"]
    raise UserError(
        f"{path} has weights but no configuration: give a file that fairseq-train wrote"
    )


def _check_architecture(model_cfg: Any, task: Any, path: str) -> None:
    name = getattr(model_cfg, "_name", None) or getattr(model_cfg, "arch", None)
    model_class = models.ARCH_MODEL_REGISTRY.get(name) or models.MODEL_REGISTRY.get(name)
    if model_class is None:
        raise UserError(
            f"{path} holds a model of the architecture {name!r}, which fairseq does not know: add "
            f"the --user-dir that the teacher was trained with"
        )
    if task_traits.is_language_modeling(task):
        wanted, what, give = FairseqLanguageModel, "a decoder alone", "a language model"
    else:
        wanted, what, give = FairseqEncoderDecoderModel, "an encoder–decoder", "a translation model"
    if not issubclass(model_class, wanted):
        raise UserError(
            f"{path} holds a {name} model, which is not {what}: give {give} as --teacher-path"
        )


def _check_dictionary(
    path: str, cfg: DictConfig, data: str | None, file: str, learners: Dictionary
) -> None:
    found = _find_dictionary(path, cfg, data, file)
    teachers = Dictionary.load(str(found))
    if len(teachers) != len(learners):
        raise UserError(
            f"the teacher {path} has {len(teachers)} types in {found}, the student "
            f"has {len(learners)} in its {file}: binarize the student's data with the teacher's "
            f"dictionaries as --srcdict/--tgtdict"
        )
    for index, (theirs, ours) in enumerate(zip(teachers.symbols, learners.symbols, strict=True)):
        if theirs != ours:
            raise UserError(
                f"the teacher {path} has other symbols than the student: type {index} is "
                f"{theirs!r} in {found} and {ours!r} in the student's {file}; binarize the "
                f"student's data with the teacher's dictionaries as --srcdict/--tgtdict"
            )


def _find_dictionary(path: str, cfg: DictConfig, data: str | None, name: str) -> Path:
    """Return the teacher's dictionary file, which fairseq keeps beside the data."""
    recorded = getattr(cfg.task, "data", None)
    folders = [data] if data else [str(Path(path).parent)]
    if recorded and not data:
        folders.append(utils.split_paths(recorded)[0])
    for folder in folders:
        file = Path(folder) / name
        if file.is_file():
            return file
    raise UserError(
        f"there is no {name} of the teacher {path} in {' or '.join(folders)}: give the folder of "
        f"this file as --teacher-data"
    )


def _forget_embedding_files(model_cfg: Any) -> None:
    """Remove the paths of embedding files, which may be gone; the checkpoint has the embeddings."""
    for key in ("encoder_embed_path", "decoder_embed_path"):
        if getattr(model_cfg, key, None):
            with open_dict(model_cfg):
                setattr(model_cfg, key, None)


def _check_positions(model: nn.Module, task: Any, path: str) -> None:
    reads = model.max_positions()
    teachers = reads if isinstance(reads, tuple) else (reads,)
    for most, limit in zip(teachers, task_traits.limits(task), strict=True):
        if most < limit.tokens:
            raise UserError(
                f"the teacher {path} reads up to {most} {limit.what}, the task up to "
                f"{limit.tokens}: pass {limit.option} {most}"
            )


def n_parameters(model: nn.Module) -> int:
    """Return the number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())
