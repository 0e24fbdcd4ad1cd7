"""Add a frozen teacher to a fairseq task."""

# fairseq builds command-line options only from types that are written as Optional[...]. It does not
# understand `str | None` or string annotations (from __future__ import annotations).
# ruff: noqa: UP045

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from typing import Any, Optional

import torch
from fairseq import utils
from fairseq.dataclass import FairseqDataclass
from fairseq.dataclass.constants import DDP_BACKEND_CHOICES
from fairseq.distributed import utils as distributed_utils
from fairseq.optim.amp_optimizer import AMPOptimizer
from fairseq.tasks import FairseqTask, register_task
from omegaconf import II
from torch import Tensor, nn

from ka_fairseq.errors import UserError
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.ranges import check_options
from ka_fairseq.task_traits import is_language_modeling
from ka_fairseq.tasks import argmax_views, on_policy
from ka_fairseq.tasks.decoder_input import DecoderInput
from ka_fairseq.tasks.views import View
from ka_fairseq.teacher.cache.cached_dataset import KEY as CACHE_KEY
from ka_fairseq.teacher.cache.teacher_cache import TeacherCache
from ka_fairseq.teacher.frozen import FrozenTeacher


@dataclass
class FrozenTeacherConfig(argmax_views.ViewsConfig, on_policy.OnPolicyConfig):
    """The options of a task with a teacher."""

    teacher_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of the trained teacher; several checkpoints, separated by colons, "
            "form an ensemble whose probabilities are averaged"
        },
    )
    teacher_dtype: Optional[str] = field(
        default=None,
        metadata={"help": "precision of the teacher: fp32, fp16 or bf16 (default: the student's)"},
    )
    teacher_data: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder with the teacher's dict.LANG.txt, or a language model's dict.txt "
            "(default: the checkpoint's folder, then the data folder that the checkpoint names)"
        },
    )
    teacher_cache: Optional[str] = field(
        default=None,
        metadata={
            "help": "folder that stores the teacher's hidden states: the teacher runs once for "
            "each sample, later epochs read the folder (the teacher then runs in fp32 unless "
            "--teacher-dtype is given)"
        },
    )
    teacher_cache_dtype: str = field(
        default="fp16",
        metadata={
            "help": "precision of the stored hidden states: fp16, bf16, or int8 with a scale for "
            "each position; int8 takes half the room and is not exact"
        },
    )
    # Not an option of the task: fairseq's option is passed on.
    ddp_backend: DDP_BACKEND_CHOICES = II(  # noqa: RUF009  an interpolation is a string
        "distributed_training.ddp_backend"
    )


class FrozenTeacherTask:
    """Mix-in that gives a task class a teacher.

    fairseq builds the task first, then the criterion, then trains. A criterion that needs the
    teacher calls :meth:`load_teacher` when the criterion is built. fairseq-generate and
    fairseq-interactive build no criterion, so they never load a teacher. The states of task and
    criterion do not contain the teacher.
    """

    teacher: Optional[FrozenTeacher] = None
    teacher_cache: Optional[TeacherCache] = None
    # Settings of the decoder's input in training.
    decoder_input: DecoderInput
    # Number of updates made so far; None before any training.
    update_num: Optional[int] = None
    # Whether the batch is a dummy, which does not count. fairseq gives a dummy batch to a worker
    # that has no batch of its own.
    is_dummy_batch = False
    # Called after each update that was made, with the student's device.
    after_update: Optional[Callable[[torch.device], None]] = None
    # A resumed training restores the task's state, see ka_fairseq.hardening.resuming.
    resumes_state = True
    # Whether the student recomputes its activations in the backward pass.
    _forgets_activations = False

    @classmethod
    def setup_task(cls, cfg: FrozenTeacherConfig, **kwargs: Any) -> FairseqTask:
        """Set up the task as fairseq does.

        Raises:
            UserError: an option of the views is out of range, or ``--ddp-backend fully_sharded``
                was given. fully_sharded divides the student's output projection among the workers
                again after the forward pass, but the loss reads the projection later.
        """
        if cfg.ddp_backend == "fully_sharded":
            raise UserError(
                "--ddp-backend fully_sharded does not work with a teacher: use pytorch_ddp (the "
                "default) or legacy_ddp"
            )
        check_options(cfg, FrozenTeacherConfig)
        task = super().setup_task(cfg, **kwargs)
        on_policy.check_has_sources(cfg, translates=not is_language_modeling(task))
        task.cfg = cfg  # fairseq's older tasks, such as language modeling, only set `args`
        task.decoder_input = DecoderInput(cfg)
        return task

    def build_model(self, cfg: Any, *others: Any, **options: Any) -> nn.Module:
        """Build the model as fairseq does."""
        self._forgets_activations = getattr(cfg, "checkpoint_activations", False)
        return super().build_model(cfg, *others, **options)

    def make_decoder_input(self, default_views: str, ignored_prefix: int) -> None:
        """Set the decoder's input as a criterion asks; the criterion calls this when it is built.

        Args:
            default_views: see :class:`DecoderInput`.
            ignored_prefix: see :class:`DecoderInput`.

        Raises:
            UserError: a batch takes several passes, ``--checkpoint-activations`` is given, and
                several workers train. Each pass then delivers a gradient of each parameter, and
                DistributedDataParallel expects one gradient.
        """
        self.decoder_input = DecoderInput(self.cfg, default_views, ignored_prefix)
        backend = str(self.cfg.ddp_backend)
        if (
            self._forgets_activations
            and self.decoder_input.takes_several_passes
            and distributed_utils.get_global_world_size() > 1
            and backend not in ("legacy_ddp", "no_c10d")
        ):
            raise UserError(
                f"--checkpoint-activations does not go with several workers of --ddp-backend "
                f"{backend} if a batch takes several passes (tie_kd, --views argmax, "
                f"--on-policy-keep-nll): use --ddp-backend legacy_ddp, or leave out "
                f"--checkpoint-activations"
            )

    def load_teacher(self) -> None:
        """Load and check the teacher, once.

        Raises:
            UserError: ``teacher_path`` is missing, or the teacher does not fit; see
                :meth:`FrozenTeacher.load`.
        """
        if self.teacher is not None:
            return
        if not self.cfg.teacher_path:
            raise UserError(
                "the criterion needs a teacher: pass --teacher-path teacher.pt (or "
                "--transfer-weight 0 to train without one)"
            )
        cfg = self.cfg
        # fp32, because students of other precisions may use the same cache.
        dtype = cfg.teacher_dtype or ("fp32" if cfg.teacher_cache else None)
        self.teacher = FrozenTeacher.load(cfg.teacher_path, self, dtype, cfg.teacher_data)
        if cfg.teacher_cache:
            self.teacher_cache = TeacherCache(
                cfg.teacher_cache,
                self.teacher,
                cfg.teacher_cache_dtype,
                cfg.teacher_path,
                [self.source_dictionary, self.target_dictionary],
            )

    def ask_teacher(
        self, sample: Mapping[str, Any], rows: Tensor, reference: Tensor
    ) -> TeacherOutput:
        """Return the teacher's answer for a batch, from the cache if there is a cache.

        Args:
            sample: fairseq's batch.
            rows: the target positions to answer, see :mod:`ka_fairseq.loss.positions`.
            reference: a parameter of the student, for its device and precision.
        """
        if self.teacher_cache is not None and CACHE_KEY in sample:
            return self.teacher_cache.answer(sample, rows, self.target_dictionary.pad())
        teacher = self.asked_teacher(reference.dtype)
        return teacher.to(reference).answer(sample["net_input"], rows)

    def asked_teacher(self, dtype: torch.dtype) -> FrozenTeacher:
        """Return the teacher for input that no cache stores, such as later passes of a method.

        This teacher has the student's precision unless ``--teacher-dtype`` is given. It differs
        from the teacher that fills a cache: that teacher runs in fp32, which takes several times as
        long on a GPU.

        Args:
            dtype: the precision of the student's parameters.
        """
        if self.teacher_cache is None or self.cfg.teacher_dtype:
            return self.teacher
        return self.teacher.in_precision(dtype)

    def views(self, sample: Mapping[str, Any], model: Any) -> Iterable[View]:
        """Return the views of a batch; by default one view, the batch as it is.

        A method that changes the decoder's input gives several views, each with its shares of the
        NLL and of D. The criterion asks for the views one by one, so a view may depend on the
        model's answer to the previous view.

        Args:
            sample: fairseq's batch.
            model: the student.
        """
        return self.decoder_input.views(self, sample, model, self.update_num or 0)

    def train_step(
        self,
        sample: Any,
        model: Any,
        criterion: Any,
        optimizer: Any,
        update_num: int,
        ignore_grad: bool = False,
        **others: Any,
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Make a training step as fairseq does; store the update's number for views and losses."""
        self.update_num, self.is_dummy_batch = update_num, ignore_grad
        return super().train_step(
            sample, model, criterion, optimizer, update_num, ignore_grad=ignore_grad, **others
        )

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """Update the model as fairseq does, then call ``after_update`` if an update was made.

        With --amp, an overflowing gradient prevents the update and lowers the loss scale.
        """
        before = _scale_of_losses(optimizer)
        super().optimizer_step(optimizer, model, update_num)
        if self.after_update is not None and _scale_of_losses(optimizer) >= before:
            self.after_update(next(model.parameters()).device)

    def load_dataset(self, split: str, epoch: int = 1, **options: Any) -> None:
        """Load a dataset as fairseq does; with a cache, batches contain the teacher's answers."""
        super().load_dataset(split, epoch=epoch, **options)
        if self.teacher_cache is not None:
            name = f"{split}-{(epoch - 1) % len(utils.split_paths(self.cfg.data))}"
            self.datasets[split] = self.teacher_cache.wrap(
                self.datasets[split], self.target_dictionary.pad(), name
            )

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Move the teacher to the CPU if there is a cache; a complete cache needs no teacher."""
        super().begin_epoch(epoch, model)
        if self.teacher_cache is not None:
            self.teacher.offload()


def _scale_of_losses(optimizer: Any) -> float:
    return optimizer.scaler.get_scale() if isinstance(optimizer, AMPOptimizer) else 1.0


def register_task_with_teacher(
    name: str, task_class: type[FairseqTask], config_class: type[FairseqDataclass]
) -> type[FairseqTask]:
    """Register ``task_class`` a second time, as ``name``, with a frozen teacher and its options.

    Args:
        name: the value of ``--task``.
        task_class: the fairseq task to extend.
        config_class: the task's dataclass.

    Returns:
        The new task class.
    """
    class_name = "".join(part.title() for part in name.split("_")) + "Task"
    config = make_dataclass(f"{class_name}Config", [], bases=(config_class, FrozenTeacherConfig))
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{task_class.__name__} with a frozen teacher beside the student.",
    }
    return register_task(name, dataclass=config)(
        type(class_name, (FrozenTeacherTask, task_class), members)
    )
