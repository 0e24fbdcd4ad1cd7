"""The base class of all distillation criterions.

The class reads the options, asks the task for views of a batch, and logs. ``ka_fairseq.loss``
computes the loss.
"""

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.logging import metrics
from fairseq.tasks import TASK_REGISTRY
from torch import Tensor, nn

from ka_fairseq import models
from ka_fairseq.criterions.chunk_options import ChunkOptions
from ka_fairseq.criterions.divergence_options import configured
from ka_fairseq.criterions.schedules import SHARE, TransferWeightSchedule, scheduled
from ka_fairseq.criterions.selection import Selection, SelectionOptions
from ka_fairseq.errors import UserError
from ka_fairseq.loss import kernels
from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.divergences import (
    TOP_K_FORMS,
    Divergence,
    check_top_k,
    divergence_named,
)
from ka_fairseq.loss.kernels import KERNELS
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.positions import TargetRows, select
from ka_fairseq.ranges import Range, check_options
from ka_fairseq.tasks.frozen_teacher_task import FrozenTeacherTask
from ka_fairseq.tasks.views import Predictions, View

# Logged values of a view. Values of the first group are multiplied by the view's share of the NLL,
# values of the second group by its share of D.
_OF_NLL = ("nll_loss", "n_correct", "total")
_OF_TRANSFER = ("transfer_loss", "entropy", "teacher_entropy")


@dataclass
class TransferCriterionConfig(
    LabelSmoothedCrossEntropyCriterionConfig,
    TransferWeightSchedule,
    SelectionOptions,
    ChunkOptions,
):
    """The options of every distillation criterion, beside those of label_smoothed_cross_entropy."""

    transfer_weight: float = field(
        default=0.5,
        metadata={
            "help": "λ in (1 − λ)·NLL + λ·D, from 0 (no teacher) to 1 (the teacher alone)",
            "valid": SHARE,
        },
    )
    temperature: float = field(
        default=1.0,
        metadata={
            "help": "temperature τ > 0 of both distributions in D; D is multiplied by τ²",
            "valid": Range(0, without_least=True),
        },
    )
    top_k: int = field(
        default=0,
        metadata={"help": "restrict D to the k best tokens; 0 means the whole vocabulary"},
    )
    top_k_form: str = field(
        default="generalized",
        metadata={"help": f"how D treats the other tokens: {', '.join(TOP_K_FORMS)}"},
    )
    loss_kernel: str = field(
        default="auto",
        metadata={
            "help": f"code that computes the loss from the logits: {', '.join(KERNELS)}; auto "
            f"takes eager on a CPU; on a GPU, auto takes the first that works of triton (one "
            f"kernel), compiled (torch.compile) and eager (op by op)"
        },
    )


class TransferCriterion(LabelSmoothedCrossEntropyCriterion):
    """Compute (1 − λ)·NLL + λ·D (Sun & Cross 2020, Eq. 12), summed over target tokens, in nats.

    With λ = 0, the loss is fairseq's label_smoothed_cross_entropy to the last digit. No teacher is
    needed then.

    Attributes:
        default_views: the default of ``--views``, see :mod:`ka_fairseq.tasks.decoder_input`.
    """

    default_views = "reference"

    def __init__(self, cfg: TransferCriterionConfig, task: Any) -> None:
        """Read the options.

        Raises:
            UserError: an option is out of range, the task has no teacher that fits, or options of
                the training contradict each other.
        """
        super().__init__(
            task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy
        )
        # fairseq keeps the criterion's dataclass here. A preset has more options than the base.
        config = getattr(type(self), "__dataclass", None) or TransferCriterionConfig
        check_options(cfg, config, label_smoothing=Range(0, 1, without_most=True))
        self.objective = Objective(
            self.make_divergence(cfg, len(task.target_dictionary)),
            cfg.transfer_weight,
            cfg.label_smoothing,
            cfg.report_accuracy,
            cfg.temperature,
        )
        self.target_rows = TargetRows(self.padding_idx, cfg.ignore_prefix_size)
        self.loss_chunk_tokens = cfg.loss_chunk_tokens
        self.loss_kernel = cfg.loss_kernel
        self.selection = Selection(cfg, task)
        self.schedule = scheduled(self.objective, cfg)
        self.without_teacher = not (cfg.transfer_weight or cfg.transfer_weight_to)
        if self.schedule is not None:
            self.objective = self.schedule(None)
        if not self.without_teacher:
            require_teacher(task)
            task.make_decoder_input(self.default_views, cfg.ignore_prefix_size)
            task.after_update = self.selection.end_update

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> str:
        """Return the name of the divergence D."""
        raise NotImplementedError

    @classmethod
    def make_divergence(cls, cfg: TransferCriterionConfig, vocabulary: int) -> Divergence:
        """Return the divergence D with its options set.

        Raises:
            UserError: the name is unknown, or an option does not go with the divergence.
        """
        return _divergence(cls.choose_divergence(cfg), cfg, vocabulary)

    def train(self, mode: bool = True) -> "TransferCriterion":
        """Set the mode as torch does; fairseq calls this at the start of each attempted update."""
        self.selection.begin_update()
        return super().train(mode)

    def forward(
        self, model: nn.Module, sample: Mapping[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Return a batch's loss, sample size and logging output, in fairseq's format.

        Raises:
            NotImplementedError: ``reduce`` is False; the chunked loss computes sums only.
        """
        if self.without_teacher:
            return super().forward(model, sample, reduce)
        if not reduce:
            raise NotImplementedError(
                "the transfer loss is a sum: call the criterion with reduce=True"
            )
        if self.schedule is not None:
            self.objective = self.schedule(self.task.update_num)
        log: dict[str, Any] = {}
        rows = functools.cache(self.target_rows.of)  # once for views of the same target
        with contextlib.closing(self._views(sample, model)) as views:
            loss = sum(self._loss_of_view(model, view, log, rows) for view in views)
        nsentences = sample["target"].size(0)
        log |= {
            "loss": loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": nsentences,
            "sample_size": nsentences if self.sentence_avg else sample["ntokens"],
        }
        return loss, log["sample_size"], log

    def _views(self, sample: Mapping[str, Any], model: nn.Module) -> Iterator[View]:
        """Yield the task's views; closing this generator also closes the task's own generator."""
        yield from self.task.views(sample, model)

    def _loss_of_view(
        self,
        model: nn.Module,
        view: View,
        log: dict[str, Any],
        rows_of: Callable[[Tensor, int], Tensor],
    ) -> Tensor:
        """Return a view's part of the loss, and add the view's logged values to ``log``."""
        objective = self.objective
        weight = objective.transfer_weight
        if not view.transfer_share:
            loss, _, parts = super().forward(model, view.sample)
            of_nll = {name: parts[name] for name in parts if name in _OF_NLL}
            _add(log, view.nll_share, {**of_nll, "nll_tokens": parts["ntokens"]})
            return (1 - weight) * view.nll_share * loss
        if (view.nll_share, view.transfer_share) != (1, 1):
            objective = replace(
                objective,
                transfer_weight=weight * view.transfer_share,
                nll_weight=(1 - weight) * view.nll_share,
            )
        sample = view.sample
        rows = rows_of(sample["target"], sample["ntokens"])
        predictions = None if view.predicted is None else torch.empty_like(rows)
        learner = models.run(model, sample["net_input"], rows)
        teacher = self.task.ask_teacher(sample, rows, next(model.parameters()))
        hard = self.selection.hard_positions(rows.device) if self.training else None
        losses = transfer_loss(
            learner,
            teacher,
            select(sample["target"], rows),
            objective,
            self.loss_chunk_tokens,
            self.loss_kernel,
            predictions,
            hard,
        )
        if view.predicted is not None:
            view.predicted(Predictions(rows, predictions))
        of_nll = {"nll_loss": losses.nll_loss.detach(), "nll_tokens": sample["ntokens"]}
        if self.report_accuracy:
            of_nll |= {"n_correct": losses.n_correct.detach(), "total": len(rows)}
        _add(log, view.nll_share, of_nll)
        of_transfer = {name: getattr(losses, name).detach() for name in _OF_TRANSFER}
        if hard is not None:
            of_transfer["nhard"] = hard.count
            if not self.task.is_dummy_batch:
                self.selection.meet(hard)
        _add(log, view.transfer_share, {**of_transfer, "npositions": len(rows)})
        return losses.loss

    @classmethod
    def reduce_metrics(cls, logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log fairseq's values, D and both entropies, in bits.

        D and the entropies are means over the positions where D was computed. With ``--select``, D
        is a mean over the hard positions. fairseq's own losses are means over all target tokens,
        including an ignored prefix. The NLL is a mean over the reference tokens that have an NLL.
        """
        of_nll = [log.get("nll_tokens", log.get("ntokens", 0)) for log in logging_outputs]
        if sum(of_nll):
            super().reduce_metrics(
                [{**log, "ntokens": n} for log, n in zip(logging_outputs, of_nll, strict=True)]
            )
        else:  # no batch has an NLL
            loss, size = (
                sum(log[name] for log in logging_outputs) for name in ("loss", "sample_size")
            )
            metrics.log_scalar("loss", loss / size / math.log(2), size, round=3)
        npositions = sum(log.get("npositions", 0) for log in logging_outputs)
        if not npositions:
            return
        sums = {name: sum(log.get(name, 0) for log in logging_outputs) for name in _OF_TRANSFER}
        counts = dict.fromkeys(_OF_TRANSFER, npositions)
        if any("nhard" in log for log in logging_outputs):
            nhard = float(sum(log.get("nhard", 0) for log in logging_outputs))
            metrics.log_scalar("hard_share", nhard / npositions, npositions, round=3)
            counts["transfer_loss"] = nhard
        for name, count in counts.items():
            if count:
                metrics.log_scalar(name, sums[name] / count / math.log(2), count, round=3)


def _add(log: dict[str, Any], share: float, parts: Mapping[str, Any]) -> None:
    """Add sums to the log, each multiplied by a view's share."""
    for name, value in parts.items():
        part = value if share == 1 else share * value
        log[name] = log[name] + part if name in log else part


def _divergence(name: str, cfg: TransferCriterionConfig, vocabulary: int) -> Divergence:
    """Return the divergence of a name with its options set.

    Raises:
        UserError: the name is unknown, or an option does not go with the divergence.
    """
    try:
        check_top_k(cfg.top_k, cfg.top_k_form, vocabulary)
        divergence = divergence_named(name)
    except ValueError as error:
        raise UserError(str(error)) from error
    divergence = configured(name, divergence, cfg)
    try:
        divergence = divergence.restricted(cfg.top_k, cfg.top_k_form)
    except ValueError as error:
        raise UserError(f"--top-k {cfg.top_k} does not go with {name}: {error}") from error
    kernels.check(cfg.loss_kernel, name, divergence, vocabulary)
    return divergence


def require_teacher(task: Any) -> None:
    """Make the task load its teacher.

    Raises:
        UserError: the task cannot have a teacher, or its teacher does not fit.
    """
    if not isinstance(task, FrozenTeacherTask):
        name = getattr(getattr(task, "args", task.cfg), "_name", type(task).__name__)
        with_teacher = sorted(
            task_name
            for task_name, task_class in TASK_REGISTRY.items()
            if issubclass(task_class, FrozenTeacherTask)
        )
        # The same task with a teacher, if there is such a task.
        fitting = [other for other in with_teacher if other == f"{name}_with_teacher"]
        raise UserError(
            f"the task {name} has no teacher: use --task {' or '.join(fitting or with_teacher)} "
            f"--teacher-path teacher.pt (or --transfer-weight 0)"
        )
    task.load_teacher()
