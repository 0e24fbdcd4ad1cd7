"""The base of all criterions here: wiring and logging; the loss is in ``transfer_loss.py``."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from fairseq.logging import metrics
from torch import Tensor, nn

from ka_fairseq import output_layer
from ka_fairseq.divergences import TOP_K_FORMS, Divergence, check_top_k
from ka_fairseq.errors import UserError
from ka_fairseq.positions import select, target_rows
from ka_fairseq.tasks.frozen_teacher_task import FrozenTeacherTask
from ka_fairseq.transfer_loss import Objective, transfer_loss


@dataclass
class TransferCriterionConfig(LabelSmoothedCrossEntropyCriterionConfig):
    """The options of every criterion here, beside fairseq's of label_smoothed_cross_entropy."""

    transfer_weight: float = field(
        default=0.5,
        metadata={
            "help": "λ in (1 − λ)·NLL + λ·D, from 0 (no teacher at all) to 1 (the teacher alone)"
        },
    )
    top_k: int = field(
        default=0,
        metadata={"help": "restrict D to the k best tokens; 0 means the whole vocabulary"},
    )
    top_k_form: str = field(
        default="generalized",
        metadata={"help": f"what becomes of the other tokens: {', '.join(TOP_K_FORMS)}"},
    )
    loss_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "target positions whose logits are held at a time; 0 chooses by the "
            "number of types and the device; changes memory and speed, the loss to rounding only"
        },
    )
    compile_loss: bool = field(
        default=False,
        metadata={
            "help": "have torch.compile fuse what is done to the logits: fewer passes over a GPU's "
            "memory, for a minute of compiling; does not pay on a CPU"
        },
    )


class TransferCriterion(LabelSmoothedCrossEntropyCriterion):
    """(1 − λ)·NLL + λ·D (Sun & Cross 2020, Eq. 12), summed over target tokens, in nats.

    λ = 0 is fairseq's own label_smoothed_cross_entropy, to the last digit, and needs no teacher.
    """

    def __init__(self, cfg: TransferCriterionConfig, task: Any) -> None:
        """Wire the options.

        Raises:
            UserError: an option is out of its range, or the task has no teacher that fits.
        """
        super().__init__(
            task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy
        )
        _check_options(cfg, len(task.target_dictionary))
        self.objective = Objective(
            self.choose_divergence(cfg).restricted(cfg.top_k, cfg.top_k_form),
            cfg.transfer_weight,
            cfg.label_smoothing,
            cfg.report_accuracy,
        )
        self.loss_chunk_tokens = cfg.loss_chunk_tokens
        self.compile_loss = cfg.compile_loss
        if cfg.transfer_weight > 0:
            require_teacher(task)

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> Divergence:
        """The divergence D that the criterion stands for."""
        raise NotImplementedError

    def forward(
        self, model: nn.Module, sample: Mapping[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """The loss of a batch: (loss, sample size, logging output), as fairseq has it.

        Raises:
            NotImplementedError: ``reduce`` is False; the chunked loss only ever has sums.
        """
        if self.objective.transfer_weight == 0:
            return super().forward(model, sample, reduce)
        if not reduce:
            raise NotImplementedError("the transfer loss is a sum over tokens: reduce=True only")
        rows = target_rows(sample["target"], self.padding_idx, self.ignore_prefix_size)
        learner = output_layer.run(model, sample["net_input"], rows)
        teacher = self.task.ask_teacher(sample, rows, next(model.parameters()))
        targets = select(sample["target"], rows)
        losses = transfer_loss(
            learner,
            teacher,
            targets,
            self.objective,
            self.loss_chunk_tokens,
            self.compile_loss,
        )
        nsentences = sample["target"].size(0)
        log = {name: value.detach() for name, value in losses._asdict().items()}
        n_correct = log.pop("n_correct")
        if self.report_accuracy:
            log |= {"n_correct": n_correct, "total": len(targets)}
        log |= {
            "npositions": len(targets),
            "ntokens": sample["ntokens"],
            "nsentences": nsentences,
            "sample_size": nsentences if self.sentence_avg else sample["ntokens"],
        }
        return losses.loss, log["sample_size"], log

    @classmethod
    def reduce_metrics(cls, logging_outputs: Sequence[Mapping[str, Any]]) -> None:
        """Log what fairseq logs, and D and both entropies: bits per position that they are of.

        fairseq's own losses are per target token, those of an ignored prefix included.
        """
        super().reduce_metrics(logging_outputs)
        npositions = sum(log.get("npositions", 0) for log in logging_outputs)
        if not npositions:
            return
        for name in ("transfer_loss", "entropy", "teacher_entropy"):
            total = sum(log.get(name, 0) for log in logging_outputs)
            metrics.log_scalar(name, total / npositions / math.log(2), npositions, round=3)


def _check_options(cfg: TransferCriterionConfig, vocabulary: int) -> None:
    if not 0 <= cfg.transfer_weight <= 1:
        raise UserError(f"--transfer-weight must lie between 0 and 1, not {cfg.transfer_weight}")
    if not 0 <= cfg.label_smoothing < 1:
        raise UserError(f"--label-smoothing must lie in [0, 1), not {cfg.label_smoothing}")
    if cfg.loss_chunk_tokens < 0:
        raise UserError(f"--loss-chunk-tokens must be 0 or more, not {cfg.loss_chunk_tokens}")
    if cfg.compile_loss and not hasattr(torch, "compile"):
        raise UserError("--compile-loss needs torch 2 or newer: leave it out")
    try:
        check_top_k(cfg.top_k, cfg.top_k_form, vocabulary)
    except ValueError as error:
        raise UserError(str(error)) from error


def require_teacher(task: Any) -> None:
    """Have the task load its teacher.

    Raises:
        UserError: the task cannot have one, or its teacher does not fit.
    """
    if not isinstance(task, FrozenTeacherTask):
        name = getattr(task.cfg, "_name", type(task).__name__)
        raise UserError(
            f"the task {name} has no teacher: use --task translation_with_teacher --teacher-path "
            f"teacher.pt (or --transfer-weight 0)"
        )
    task.load_teacher()
