"""Give a frozen teacher to a fairseq task."""

# fairseq makes command-line options from real types of the form Optional[...]: neither
# `str | None` nor annotations as strings (from __future__ import annotations) are understood.
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
    """The options that a task gains with its teacher."""

    teacher_path: Optional[str] = field(
        default=None,
        metadata={
            "help": "checkpoint of the trained teacher; several, separated by colons, form an "
            "ensemble whose probabilities are averaged"
        },
    )
    teacher_dtype: Optional[str] = field(
        default=None,
        metadata={"help": "precision of the teacher: fp32, fp16 or bf16 (default: the learner's)"},
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
            "help": "folder that keeps the teacher's hidden states: each sample is answered once, "
            "then read from there (what is stored was answered in fp32 unless --teacher-dtype is "
            "given)"
        },
    )
    teacher_cache_dtype: str = field(
        default="fp16",
        metadata={
            "help": "precision of the hidden states kept: fp16 or bf16; int8, with a scale for "
            "each position, takes half of their room and is no longer exact"
        },
    )
    # No option of its own: fairseq's, passed on.
    ddp_backend: DDP_BACKEND_CHOICES = II(  # noqa: RUF009  an interpolation is a string
        "distributed_training.ddp_backend"
    )


class FrozenTeacherTask:
    """Mix-in for a task class; the teacher hangs on the task.

    A criterion that needs the teacher calls :meth:`load_teacher` when it is built: after the task,
    before any training. fairseq-generate and fairseq-interactive build no criterion and so never
    load a teacher. No state of the task or the criterion contains it.
    """

    teacher: Optional[FrozenTeacher] = None
    teacher_cache: Optional[TeacherCache] = None
    # How a training has the decoder's input made.
    decoder_input: DecoderInput
    # What a training is at: how many updates were made before (None: none has begun), and whether
    # the batch counts for nothing, as one that keeps a worker busy that has none.
    update_num: Optional[int] = None
    is_dummy_batch = False
    # Called after each update that was made, with the learner's device.
    after_update: Optional[Callable[[torch.device], None]] = None
    # Its state belongs to a training: see ka_fairseq.hardening.resuming.
    resumes_state = True
    # Whether the learner forgets activations and computes them anew, for its backward pass.
    _forgets_activations = False

    @classmethod
    def setup_task(cls, cfg: FrozenTeacherConfig, **kwargs: Any) -> FairseqTask:
        """Set the task up as fairseq does.

        Raises:
            UserError: ``--ddp-backend fully_sharded``. The loss reads the learner's output
                projection after the forward pass, when its shards are scattered again. Or an option
                of the views is out of its range.
        """
        if cfg.ddp_backend == "fully_sharded":
            raise UserError(
                "--ddp-backend fully_sharded does not work with a teacher: use pytorch_ddp (the "
                "default) or legacy_ddp"
            )
        check_options(cfg, FrozenTeacherConfig)
        task = super().setup_task(cfg, **kwargs)
        on_policy.check_has_sources(cfg, translates=not is_language_modeling(task))
        task.cfg = cfg  # fairseq's older tasks, language modeling among them, have `args` alone
        task.decoder_input = DecoderInput(cfg)
        return task

    def build_model(self, cfg: Any, *others: Any, **options: Any) -> nn.Module:
        """As fairseq does."""
        self._forgets_activations = getattr(cfg, "checkpoint_activations", False)
        return super().build_model(cfg, *others, **options)

    def make_decoder_input(self, default_views: str, ignored_prefix: int) -> None:
        """Take what a criterion says of the decoder's input; called when the criterion is built.

        Args:
            default_views: as of :class:`DecoderInput`.
            ignored_prefix: likewise.

        Raises:
            UserError: several workers cannot train the learner in as many passes as a batch takes.
                DistributedDataParallel counts each parameter's gradient, and with
                ``--checkpoint-activations`` each pass hands in one.
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
                f"{backend} where a batch takes several passes (tie_kd, --views argmax, "
                f"--on-policy-keep-nll): use --ddp-backend legacy_ddp, or leave it out"
            )

    def load_teacher(self) -> None:
        """Load and check the teacher, once.

        Raises:
            UserError: no ``teacher_path``, or a teacher that does not fit; see
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
        # A cache outlives this learner and its precision.
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
        """What the teacher says to a batch, from the cache where there is one.

        Args:
            sample: fairseq's batch.
            rows: the target positions to answer, see :mod:`ka_fairseq.loss.positions`.
            reference: a parameter of the learner: its device and precision.
        """
        if self.teacher_cache is not None and CACHE_KEY in sample:
            return self.teacher_cache.answer(sample, rows, self.target_dictionary.pad())
        teacher = self.asked_teacher(reference.dtype)
        return teacher.to(reference).answer(sample["net_input"], rows)

    def asked_teacher(self, dtype: torch.dtype) -> FrozenTeacher:
        """The teacher that answers what no cache stores, such as a method's further passes.

        Its precision is the learner's unless ``--teacher-dtype`` says otherwise. The teacher that
        fills a cache answers in fp32, which takes a GPU several times as long.

        Args:
            dtype: of the learner's parameters.
        """
        if self.teacher_cache is None or self.cfg.teacher_dtype:
            return self.teacher
        return self.teacher.in_precision(dtype)

    def views(self, sample: Mapping[str, Any], model: Any) -> Iterable[View]:
        """How a criterion is to see a batch: once, as it is, unless the options say otherwise.

        A method that changes what the decoder reads gives several, each with its shares of the NLL
        and of D; they are asked for one by one, so that one may depend on the model's answer.

        Args:
            sample: fairseq's batch.
            model: the learner.
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
        """As fairseq does; views and criterion may depend on the number of the update."""
        self.update_num, self.is_dummy_batch = update_num, ignore_grad
        return super().train_step(
            sample, model, criterion, optimizer, update_num, ignore_grad=ignore_grad, **others
        )

    def optimizer_step(self, optimizer: Any, model: Any, update_num: int) -> None:
        """As fairseq does, and calls what is to be called after an update that was made.

        With --amp none is made where a gradient overflows; the scale of the losses is lowered.
        """
        before = _scale_of_losses(optimizer)
        super().optimizer_step(optimizer, model, update_num)
        if self.after_update is not None and _scale_of_losses(optimizer) >= before:
            self.after_update(next(model.parameters()).device)

    def load_dataset(self, split: str, epoch: int = 1, **options: Any) -> None:
        """As fairseq does; batches bring the teacher's stored answers along."""
        super().load_dataset(split, epoch=epoch, **options)
        if self.teacher_cache is not None:
            name = f"{split}-{(epoch - 1) % len(utils.split_paths(self.cfg.data))}"
            self.datasets[split] = self.teacher_cache.wrap(
                self.datasets[split], self.target_dictionary.pad(), name
            )

    def begin_epoch(self, epoch: int, model: Any) -> None:
        """Offload the teacher: with a cache it may not be needed any more."""
        super().begin_epoch(epoch, model)
        if self.teacher_cache is not None:
            self.teacher.offload()


def _scale_of_losses(optimizer: Any) -> float:
    return optimizer.scaler.get_scale() if isinstance(optimizer, AMPOptimizer) else 1.0


def register_task_with_teacher(
    name: str, task_class: type[FairseqTask], config_class: type[FairseqDataclass]
) -> type[FairseqTask]:
    """Register ``task_class`` once more, as ``name``, with a frozen teacher and its options.

    Args:
        name: what ``--task`` calls it.
        task_class: the fairseq task to extend.
        config_class: its dataclass.

    Returns:
        The new task class.
    """
    class_name = "".join(part.title() for part in name.split("_")) + "Task"
    config = make_dataclass(f"{class_name}Config", [], bases=(config_class, FrozenTeacherConfig))
    members: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{task_class.__name__} with a frozen teacher beside the learner.",
    }
    return register_task(name, dataclass=config)(
        type(class_name, (FrozenTeacherTask, task_class), members)
    )
