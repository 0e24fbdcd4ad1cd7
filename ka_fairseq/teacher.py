"""FrozenTeacher: load, check, freeze, cast and run one model or an ensemble of them."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, models, utils
from fairseq.data import Dictionary
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.models import BaseFairseqModel, FairseqEncoderDecoderModel
from omegaconf import DictConfig, open_dict
from torch import Tensor, nn

import ka_fairseq.compat  # noqa: F401  checkpoints are loaded here
from ka_fairseq import output_layer
from ka_fairseq.errors import UserError
from ka_fairseq.teacher_output import TeacherOutput

logger = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class FrozenTeacher:
    """One or several trained models that only ever answer.

    It is no ``nn.Module``, so nothing that holds it can train it, wrap it in
    DistributedDataParallel or write it into a checkpoint.
    """

    def __init__(self, members: Sequence[BaseFairseqModel], dtype: str | None = None) -> None:
        """Freeze models.

        Args:
            members: the models; several form an ensemble whose probabilities are averaged.
            dtype: a key of :data:`DTYPES`; None takes the learner's.

        Raises:
            UserError: unknown ``dtype``.
        """
        if dtype is not None and dtype not in DTYPES:
            raise UserError(f"unknown --teacher-dtype {dtype!r}; choose from {', '.join(DTYPES)}")
        self.dtype = DTYPES[dtype] if dtype else None
        self._place: tuple[torch.device, torch.dtype] | None = None
        self.members = [member.eval().requires_grad_(False) for member in members]

    @classmethod
    def load(
        cls, paths: str, task: Any, dtype: str | None = None, data: str | None = None
    ) -> FrozenTeacher:
        """Load checkpoints and check that they fit the learner's task.

        Args:
            paths: checkpoint files, separated by colons.
            task: the learner's task: its dictionaries, languages and length limits.
            dtype: see :class:`FrozenTeacher`.
            data: folder of the teacher's dictionaries; None looks beside the checkpoint, then in
                the data folder that the checkpoint names.

        Raises:
            UserError: a file is missing, damaged or no fairseq checkpoint; its model is no
                encoder–decoder; its dictionaries are not the learner's or cannot be found; it
                reads shorter sentences than the learner.
        """
        members = [_load_member(path, task, data) for path in paths.split(os.pathsep)]
        logger.info(f"frozen teacher: {paths} ({sum(map(_n_parameters, members)):,} parameters)")
        return cls(members, dtype)

    def to(self, reference: Tensor) -> FrozenTeacher:
        """Move to a tensor's device, and to its precision unless another was asked for.

        Args:
            reference: a parameter of the learner. What the learner puts out is no reference:
                autocast makes it half, and log-probabilities are float32 whatever the model is.
        """
        place = (reference.device, self.dtype or reference.dtype)
        if place != self._place:  # asked at every step, and walking all parameters takes its time
            for member in self.members:
                member.to(*place)
            self._place = place
        return self

    def offload(self) -> None:
        """Back to the CPU, until :meth:`to` is called."""
        for member in self.members:
            member.to("cpu")
        self._place = None

    @torch.no_grad()
    def answer(self, net_input: Mapping[str, Any], rows: Tensor) -> TeacherOutput:
        """Each member's output for some target positions, see :func:`output_layer.run`.

        Outside of autocast: --amp is how the learner computes, the teacher has a precision of its
        own.
        """
        with torch.autocast(rows.device.type, enabled=False):
            members = [output_layer.run(member, net_input, rows) for member in self.members]
        return TeacherOutput(members)


def _load_member(path: str, task: Any, data: str | None) -> BaseFairseqModel:
    if not path:
        raise UserError("--teacher-path has an empty name in it: give teacher.pt[:teacher2.pt…]")
    state = checkpoint_utils.load_checkpoint_to_cpu(path)
    cfg = _config(state, path)
    _check_architecture(cfg.model, path)
    for language, dictionary in _languages(task):
        _check_dictionary(path, cfg, data, language, dictionary)
    _forget_embedding_files(cfg.model)
    try:
        # models.build_model, not task.build_model: TranslationTask would make its generator for
        # validation BLEU anew, around the teacher.
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


def _check_architecture(model_cfg: Any, path: str) -> None:
    name = getattr(model_cfg, "_name", None) or getattr(model_cfg, "arch", None)
    model_class = models.ARCH_MODEL_REGISTRY.get(name) or models.MODEL_REGISTRY.get(name)
    if model_class is None:
        raise UserError(
            f"{path} holds a model of the architecture {name!r}, which fairseq does not know: it "
            f"needs the --user-dir it was trained with"
        )
    if not issubclass(model_class, FairseqEncoderDecoderModel):
        raise UserError(
            f"{path} holds a {name} model, which is not an encoder–decoder: give a translation "
            f"model as --teacher-path"
        )


def _languages(task: Any) -> list[tuple[str, Dictionary]]:
    return [
        (task.cfg.source_lang, task.source_dictionary),
        (task.cfg.target_lang, task.target_dictionary),
    ]


def _check_dictionary(
    path: str, cfg: DictConfig, data: str | None, language: str, learners: Dictionary
) -> None:
    found = _find_dictionary(path, cfg, data, language)
    teachers = Dictionary.load(str(found))
    if len(teachers) != len(learners):
        raise UserError(
            f"the teacher {path} has {len(teachers)} types in {found}, the learner "
            f"{len(learners)} for {language}: binarize the learner's data with --srcdict/--tgtdict "
            f"of the teacher"
        )
    for index, (theirs, ours) in enumerate(zip(teachers.symbols, learners.symbols, strict=True)):
        if theirs != ours:
            raise UserError(
                f"the teacher {path} has other symbols than the learner: type {index} is "
                f"{theirs!r} in {found} and {ours!r} in the learner's {language} dictionary; "
                f"binarize the learner's data with --srcdict/--tgtdict of the teacher"
            )


def _find_dictionary(path: str, cfg: DictConfig, data: str | None, language: str) -> Path:
    """The teacher's dictionary: fairseq keeps it beside the data, not in the checkpoint."""
    recorded = getattr(cfg.task, "data", None)
    folders = [data] if data else [str(Path(path).parent)]
    if recorded and not data:
        folders.append(utils.split_paths(recorded)[0])
    for folder in folders:
        file = Path(folder) / f"dict.{language}.txt"
        if file.is_file():
            return file
    raise UserError(
        f"no dict.{language}.txt of the teacher {path} in {' or '.join(folders)}: name the folder "
        f"that has it with --teacher-data"
    )


def _forget_embedding_files(model_cfg: Any) -> None:
    """The checkpoint has the embeddings; the files they once came from may be gone."""
    for key in ("encoder_embed_path", "decoder_embed_path"):
        if getattr(model_cfg, key, None):
            with open_dict(model_cfg):
                setattr(model_cfg, key, None)


def _check_positions(model: nn.Module, task: Any, path: str) -> None:
    limits = zip(("source", "target"), model.max_positions(), task.max_positions(), strict=True)
    for side, teachers, learners in limits:
        if teachers < learners:
            raise UserError(
                f"the teacher {path} reads up to {teachers} {side} tokens, the task up to "
                f"{learners}: pass --max-{side}-positions {teachers}"
            )


def _n_parameters(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())
