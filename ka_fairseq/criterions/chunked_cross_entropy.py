"""``--criterion chunked_cross_entropy``: fairseq's smoothed loss in chunks, without a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairseq.criterions import register_criterion
from fairseq.criterions.label_smoothed_cross_entropy import (
    LabelSmoothedCrossEntropyCriterion,
    LabelSmoothedCrossEntropyCriterionConfig,
)
from torch import Tensor, nn

from ka_fairseq import models
from ka_fairseq.criterions.chunk_options import ChunkOptions
from ka_fairseq.loss.chunked import cross_entropy
from ka_fairseq.loss.positions import TargetRows, select
from ka_fairseq.ranges import check_options


@dataclass
class ChunkedCrossEntropyConfig(LabelSmoothedCrossEntropyCriterionConfig, ChunkOptions):
    """The options of fairseq's label_smoothed_cross_entropy, and the size of a chunk."""


@register_criterion("chunked_cross_entropy", dataclass=ChunkedCrossEntropyConfig)
class ChunkedCrossEntropyCriterion(LabelSmoothedCrossEntropyCriterion):
    """Compute fairseq's label_smoothed_cross_entropy in chunks.

    Loss, gradient and logs equal fairseq's up to rounding. They take less memory and time, because
    the (tokens × types) logits are never held at once. Use the criterion to train a student before
    distillation, or on a teacher's translations (sequence-level distillation, Kim & Rush 2016).
    """

    def __init__(self, cfg: ChunkedCrossEntropyConfig, task: Any) -> None:
        """Read the options.

        Raises:
            UserError: an option is out of its range.
        """
        super().__init__(
            task, cfg.sentence_avg, cfg.label_smoothing, cfg.ignore_prefix_size, cfg.report_accuracy
        )
        check_options(cfg, ChunkOptions)
        self.target_rows = TargetRows(self.padding_idx, cfg.ignore_prefix_size)
        self.loss_chunk_tokens = cfg.loss_chunk_tokens

    def forward(
        self, model: nn.Module, sample: Mapping[str, Any], reduce: bool = True
    ) -> tuple[Tensor, int, dict[str, Any]]:
        """Return a batch's loss, sample size and logging output, in fairseq's format.

        With ``reduce=False``, fairseq's own criterion computes the loss of each token.
        """
        if not reduce:
            return super().forward(model, sample, reduce)
        target = sample["target"]
        rows = self.target_rows.of(target, sample["ntokens"])
        losses = cross_entropy(
            models.run(model, sample["net_input"], rows),
            select(target, rows),
            self.eps,
            self.loss_chunk_tokens,
            self.report_accuracy,
        )
        sample_size = target.size(0) if self.sentence_avg else sample["ntokens"]
        log = {
            "loss": losses.loss.detach(),
            "nll_loss": losses.nll_loss.detach(),
            "ntokens": sample["ntokens"],
            "nsentences": target.size(0),
            "sample_size": sample_size,
        }
        if self.report_accuracy:
            log |= {"n_correct": losses.n_correct.detach(), "total": len(rows)}
        return losses.loss, sample_size, log
