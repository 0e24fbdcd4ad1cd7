"""FrozenTeacher: one model or an ensemble, moved to a device, cast and run."""

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
    """One or several trained models that are run and never trained.

    The class is not an ``nn.Module``. So no module that holds a FrozenTeacher trains it, wraps it
    in DistributedDataParallel or writes it into a checkpoint.
    """

    def __init__(self, members: Sequence[BaseFairseqModel], dtype: str | None = None) -> None:
        """Freeze models.

        Args:
            members: the models; several models form an ensemble with averaged probabilities.
            dtype: a key of :data:`DTYPES`; None takes the student's precision.

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
        """Load checkpoints, and check that they fit the student's task.

        Args:
            paths: checkpoint files, separated by colons.
            task: the student's task, with dictionaries, languages and length limits.
            dtype: see :class:`FrozenTeacher`.
            data: folder of the teacher's dictionaries; None looks beside the checkpoint, then in
                the data folder that the checkpoint names.

        Raises:
            UserError: a file is missing, damaged or not a fairseq checkpoint. The model is not of
                the task's kind (encoder–decoder or language model). The dictionaries are missing,
                or differ from the student's. The teacher reads shorter sentences than the student.
        """
        members = [load_member(path, task, data) for path in paths.split(os.pathsep)]
        logger.info(f"frozen teacher: {paths} ({sum(map(n_parameters, members)):,} parameters)")
        return cls(members, dtype)

    def to(self, reference: Tensor) -> FrozenTeacher:
        """Move the teacher to a tensor's device, and to its precision unless ``dtype`` was given.

        Args:
            reference: a parameter of the student. The student's output will not do: autocast
                rounds it to half precision, and log-probabilities are always float32.
        """
        place = (reference.device, self.dtype or reference.dtype)
        if place != self.place:  # called at every step; moving visits all parameters
            for member in self.members:
                member.to(*place)
            self.place = place
        return self

    def in_precision(self, dtype: torch.dtype) -> FrozenTeacher:
        """Return the teacher in another precision: itself, or a copy that is made once.

        The teacher's own weights do not change: rounding them would lose digits.
        """
        if dtype == self.dtype:
            return self
        if dtype not in self._copies:
            members = [copy.deepcopy(member).to(dtype) for member in self.members]
            self._copies[dtype] = FrozenTeacher(members)
        return self._copies[dtype]

    def offload(self) -> None:
        """Move the teacher to the CPU, until :meth:`to` is called."""
        for member in self.members:
            member.to("cpu")
        self.place = None

    @torch.no_grad()
    def answer(self, net_input: Mapping[str, Any], rows: Tensor) -> TeacherOutput:
        """Return each member's output for some target positions, see :func:`models.run`.

        The teacher runs outside of autocast: --amp is for the student, and the teacher has its own
        precision.
        """
        wide = self.dtype is None and next(self.members[0].parameters()).dtype == torch.float32
        if wide and autocast_dtype(rows.device) is not None:
            _tell_of_a_wide_teacher()
        with torch.autocast(rows.device.type, enabled=False):
            members = [models.run(member, net_input, rows) for member in self.members]
        return TeacherOutput(members)


@functools.cache
def _tell_of_a_wide_teacher() -> None:
    """Log once per process that a float32 teacher takes most of the time."""
    logger.info(
        "--amp leaves the teacher in fp32, which uses no tensor cores: --teacher-dtype bf16 makes "
        "the teacher several times as fast, with 8 significant bits"
    )
