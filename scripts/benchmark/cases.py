"""The measured steps: a training step of each kind, and the loss alone of each kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from torch import Tensor, nn

from benchmark.plain import plain_loss
from benchmark.sizes import KERNELS
from ka_fairseq import models
from ka_fairseq.loss.chunked import cross_entropy, transfer_loss
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.positions import select, target_rows
from ka_fairseq.loss.projection import Projection
from ka_fairseq.teacher.cache.cached_dataset import KEY

Sample = Mapping[str, Any]
Run = Callable[[], Any]


@dataclass(frozen=True)
class Bench:
    """fairseq's task, model and criterion for a case.

    Attributes:
        task: the task, with its teacher loaded if the case has a teacher.
        model: the student.
        criterion: the criterion as fairseq-train builds it.
    """

    task: Any
    model: nn.Module
    criterion: Any

    @property
    def padding(self) -> int:
        """The padding token of targets."""
        return self.task.target_dictionary.pad()

    @property
    def objective(self) -> Objective:
        """λ, label smoothing and divergence of one of this package's criterions."""
        return self.criterion.objective

    def rows(self, sample: Sample) -> Tensor:
        """Return the target positions without padding, see :mod:`ka_fairseq.loss.positions`."""
        return target_rows(sample["target"], self.padding)

    def teacher(self) -> nn.Module:
        """Return the teacher's model, on the student's device and in its precision."""
        return self.task.teacher.to(next(self.model.parameters())).members[0]

    def teacher_logits(self, sample: Sample) -> Tensor:
        """Run the teacher's forward pass; return logits of shape (batch, length, V)."""
        with torch.no_grad():
            return self.teacher()(**sample["net_input"])[0]

    def leaf(self, sample: Sample, rows: Tensor) -> Projection:
        """Return the student's hidden states and projection as the leaves of a new graph."""
        with torch.no_grad():
            output = models.run(self.model, sample["net_input"], rows)
        hidden, weight = (tensor.detach().requires_grad_() for tensor in output.inputs[:2])
        return replace(output, hidden=hidden, weight=weight)

    def teacher_output(self, sample: Sample, rows: Tensor) -> Projection:
        """Return the teacher's hidden states and projection."""
        with torch.no_grad():
            return models.run(self.teacher(), sample["net_input"], rows)


class CriterionCase:
    """A step with an unchanged criterion: fairseq's cross-entropy, or one of this package's."""

    def __init__(self, bench: Bench) -> None:
        """Store the bench."""
        self.bench = bench

    def step(self, sample: Sample) -> None:
        """Run forward and backward."""
        self.bench.criterion(self.bench.model, sample)[0].backward()

    def loss_alone(self, sample: Sample) -> Run | None:
        """Return the computation from hidden states to their gradient, or None without a loss."""
        return None


class CrossEntropyCase(CriterionCase):
    """The student's step without a teacher: fairseq's label_smoothed_cross_entropy."""

    def loss_alone(self, sample: Sample) -> Run:
        """Return fairseq's computation from hidden states to the loss and back."""
        everything = torch.arange(sample["target"].numel(), device=sample["target"].device)
        learner = self.bench.leaf(sample, everything)
        targets, padding = sample["target"].reshape(-1, 1), self.bench.padding

        def run() -> None:
            lprobs = F.log_softmax(F.linear(*learner.inputs[:2]), dim=-1, dtype=torch.float32)
            epsilon = self.bench.criterion.eps
            label_smoothed_nll_loss(lprobs, targets, epsilon, padding)[0].backward()

        return run


class ChunkedCrossEntropyCase(CriterionCase):
    """The student's step with the chunked form of that loss."""

    def loss_alone(self, sample: Sample) -> Run:
        """Return the chunked loss."""
        rows = self.bench.rows(sample)
        learner = self.bench.leaf(sample, rows)
        targets, epsilon = select(sample["target"], rows), self.bench.criterion.eps
        return lambda: cross_entropy(learner, targets, epsilon).loss.backward()


class ChunkedCase(CriterionCase):
    """A criterion of this package; the teacher runs at every step."""

    def loss_alone(self, sample: Sample) -> Run:
        """Return the chunked loss."""
        rows = self.bench.rows(sample)
        learner = self.bench.leaf(sample, rows)
        teacher = TeacherOutput([self.bench.teacher_output(sample, rows)])
        targets = select(sample["target"], rows)
        criterion = self.bench.criterion
        options = (criterion.objective, criterion.loss_chunk_tokens, criterion.loss_kernel)
        return lambda: transfer_loss(learner, teacher, targets, *options).loss.backward()


class CachedCase(CriterionCase):
    """A criterion of this package; the batch brings the teacher's stored answers."""

    def step(self, sample: Sample) -> None:
        """Run forward and backward.

        Raises:
            RuntimeError: the batch has no answers of the teacher.
        """
        if "hidden" not in sample[KEY]:
            raise RuntimeError("the teacher cache has no answers for this batch")
        super().step(sample)


class PlainCase(CriterionCase):
    """The plain reference; the teacher runs at every step."""

    def loss(self, sample: Sample) -> Tensor:
        """Return the reference's loss of a batch."""
        logits = self.bench.model(**sample["net_input"])[0]
        return self._of_logits(logits, self.bench.teacher_logits(sample), sample)

    def step(self, sample: Sample) -> None:
        """Run forward and backward."""
        self.loss(sample).backward()

    def loss_alone(self, sample: Sample) -> Run:
        """Return the computation from both models' hidden states on."""
        everything = torch.arange(sample["target"].numel(), device=sample["target"].device)
        learner = self.bench.leaf(sample, everything)
        teacher = self.bench.teacher_output(sample, everything)
        shape = (*sample["target"].shape, -1)

        def run() -> None:
            with torch.no_grad():
                teacher_logits = F.linear(*teacher.inputs[:2]).view(shape)
            logits = F.linear(*learner.inputs[:2]).view(shape)
            self._of_logits(logits, teacher_logits, sample).backward()

        return run

    def difference(self, sample: Sample) -> float:
        """Return the relative difference between its loss and the criterion's, without dropout."""
        self.bench.model.eval()
        with torch.no_grad():
            criterions = float(self.bench.criterion(self.bench.model, sample)[0])
            references = float(self.loss(sample))
        self.bench.model.train()
        return abs(references - criterions) / abs(criterions)

    def _of_logits(self, logits: Tensor, teacher_logits: Tensor, sample: Sample) -> Tensor:
        return plain_loss(
            logits, teacher_logits, sample["target"], self.bench.objective, self.bench.padding
        )


class TeacherCase(CriterionCase):
    """The teacher's forward pass up to its logits; "the loss alone" is its output projection."""

    def step(self, sample: Sample) -> None:
        """Run the forward pass."""
        self.bench.teacher_logits(sample)

    def loss_alone(self, sample: Sample) -> Run:
        """Return the output projection of the positions without padding."""
        output = self.bench.teacher_output(sample, self.bench.rows(sample))

        def run() -> None:
            with torch.no_grad():
                F.linear(*output.inputs)

        return run


CASES: dict[str, type[CriterionCase]] = {
    "cross_entropy": CrossEntropyCase,
    "chunked_cross_entropy": ChunkedCrossEntropyCase,
    "teacher": TeacherCase,
    "plain": PlainCase,
    "chunked": ChunkedCase,
    **dict.fromkeys(KERNELS, ChunkedCase),
    "cached": CachedCase,
}
