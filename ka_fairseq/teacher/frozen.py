"""FrozenTeacher: place, cast and ask one model or an ensemble of them."""

from __future__ import annotations

import copy
import functools
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from fairseq.models import BaseFairseqModel
from torch import Tensor

from ka_fairseq import models
from ka_fairseq.errors import UserError
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.matmul import autocast_dtype
from ka_fairseq.teacher.checkpoint import load_member, n_parameters

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
        self._copies: dict[torch.dtype, FrozenTeacher] = {}
        self.place: tuple[torch.device, torch.dtype] | None = None
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
                encoder–decoder, or no language model where one is taught; its dictionaries are
                not the learner's or cannot be found; it reads shorter sentences than the learner.
        """
        members = [load_member(path, task, data) for path in paths.split(os.pathsep)]
        logger.info(f"frozen teacher: {paths} ({sum(map(n_parameters, members)):,} parameters)")
        return cls(members, dtype)

    def to(self, reference: Tensor) -> FrozenTeacher:
        """Move to a tensor's device, and to its precision unless another was asked for.

        Args:
            reference: a parameter of the learner. What the learner puts out is no reference:
                autocast makes it half, and log-probabilities are float32 whatever the model is.
        """
        place = (reference.device, self.dtype or reference.dtype)
        if place != self.place:  # asked at every step, and walking all parameters takes its time
            for member in self.members:
                member.to(*place)
            self.place = place
        return self

    def in_precision(self, dtype: torch.dtype) -> FrozenTeacher:
        """The same in another precision: itself, or a copy that is made once.

        Its own weights stay as they are: rounded and widened again they would be others.
        """
        if dtype == self.dtype:
            return self
        if dtype not in self._copies:
            members = [copy.deepcopy(member).to(dtype) for member in self.members]
            self._copies[dtype] = FrozenTeacher(members)
        return self._copies[dtype]

    def offload(self) -> None:
        """Back to the CPU, until :meth:`to` is called."""
        for member in self.members:
            member.to("cpu")
        self.place = None

    @torch.no_grad()
    def answer(self, net_input: Mapping[str, Any], rows: Tensor) -> TeacherOutput:
        """Each member's output for some target positions, see :func:`models.run`.

        Outside of autocast: --amp is how the learner computes, the teacher has a precision of its
        own.
        """
        wide = self.dtype is None and next(self.members[0].parameters()).dtype == torch.float32
        if wide and autocast_dtype(rows.device) is not None:
            _tell_of_a_wide_teacher()
        with torch.autocast(rows.device.type, enabled=False):
            members = [models.run(member, net_input, rows) for member in self.members]
        return TeacherOutput(members)


@functools.cache
def _tell_of_a_wide_teacher() -> None:
    """Once a process: a teacher as wide as the parameters is what takes most of the time."""
    logger.info(
        "--amp leaves the teacher in fp32, which uses no tensor cores: where 8 bits will do, "
        "--teacher-dtype bf16 answers several times as fast"
    )
