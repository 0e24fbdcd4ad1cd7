"""From hidden states and output projections to (1 − λ)·NLL + λ·D, with its gradient, in chunks.

The loss walks the N target positions in chunks of rows. A chunk's logits, log-probabilities and
their gradient are (rows × V) tensors that are gone before the next chunk begins, so memory does not
grow with N·V; what is kept for the backward pass is the gradient of the hidden states and of the
output projection. Nothing is computed a second time in the backward pass.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ka_fairseq import divergences
from ka_fairseq.divergences import Divergence
from ka_fairseq.output_layer import Output, wide

# Elements of one (rows × types) chunk: 16 MB in float32. Larger chunks were no faster on a CPU.
CHUNK_ELEMENTS = 2**22


class TransferLoss(NamedTuple):
    """Sums over the N positions, in nats; scalars. Only ``loss`` has a gradient.

    Attributes:
        loss: (1 − λ)·(label-smoothed) NLL + λ·D.
        nll_loss: −Σ log p(target), without smoothing.
        transfer_loss: Σ D, the divergence alone.
        entropy: Σ H(p), the learner's.
        teacher_entropy: Σ H(q).
        n_correct: how often the learner's best token is the target; 0 unless asked for.
    """

    loss: Tensor
    nll_loss: Tensor
    transfer_loss: Tensor
    entropy: Tensor
    teacher_entropy: Tensor
    n_correct: Tensor


@dataclass(frozen=True)
class Objective:
    """What is minimised (Sun & Cross 2020, Eq. 12).

    Attributes:
        divergence: D(log p, log q), one value a row, see :mod:`ka_fairseq.divergences`.
        transfer_weight: λ in [0, 1].
        label_smoothing: ε of the NLL part, as in fairseq's label_smoothed_cross_entropy.
        accuracy: whether to find each row's best token.
    """

    divergence: Divergence
    transfer_weight: float
    label_smoothing: float = 0.0
    accuracy: bool = False


def transfer_loss(
    learner: Output,
    teachers: Sequence[Output],
    targets: Tensor,
    objective: Objective,
    chunk_rows: int | None = None,
) -> TransferLoss:
    """(1 − λ)·NLL + λ·D, summed over all positions, and its parts.

    Args:
        learner: N positions.
        teachers: the same N positions of each teacher; several are averaged as probabilities.
        targets: the reference tokens, shape (N,). No padding: drop it before.
        objective: divergence, λ and label smoothing.
        chunk_rows: how many positions are worked on at a time; chosen from V when None. It changes
            memory and speed, not the result.

    Returns:
        Sums in nats. With N = 0 the loss is 0 and still belongs to the learner's graph.
    """
    work = _Work(
        learner=learner.wide(),
        teachers=[teacher.wide() for teacher in teachers],
        targets=targets,
        objective=objective,
        chunk_rows=chunk_rows or max(1, CHUNK_ELEMENTS // learner.vocabulary),
        gradient=torch.is_grad_enabled(),
    )
    return TransferLoss(*_ChunkedLoss.apply(work, *learner.inputs))


def teacher_log_probs(teachers: Sequence[Output], rows: slice) -> Tensor:
    """log q of some rows, shape (n, V): log of the mean of the teachers' probabilities."""
    lprobs = [torch.log_softmax(teacher.logits(rows), dim=-1) for teacher in teachers]
    if len(lprobs) == 1:
        return lprobs[0]
    return torch.stack(lprobs).logsumexp(0) - math.log(len(lprobs))


def label_smoothed_nll(lprobs: Tensor, targets: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The smoothed and the plain −log p(target), each of shape (N,), in nats.

    As fairseq's ``label_smoothed_nll_loss``: (1 − ε − ε/(V−1))·NLL + ε/(V−1)·Σ_y −log p(y).
    """
    nll = -lprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1)
    if not epsilon:
        return nll, nll
    each = epsilon / (lprobs.size(-1) - 1)
    return (1.0 - epsilon - each) * nll - each * lprobs.sum(-1), nll


def row_losses(
    lprobs: Tensor, teacher_lprobs: Tensor, targets: Tensor, objective: Objective
) -> TransferLoss:
    """The loss of every row and its parts, each of shape (N,), in nats; the plain formula."""
    smoothed, nll = label_smoothed_nll(lprobs, targets, objective.label_smoothing)
    divergence = objective.divergence(lprobs, teacher_lprobs)
    weight = objective.transfer_weight
    # λ = 1 leaves the NLL out, rather than adding 0 · NLL, which is NaN where p(target) is 0.
    loss = divergence if weight == 1 else (1 - weight) * smoothed + weight * divergence
    with torch.no_grad():
        return TransferLoss(
            loss,
            nll,
            divergence,
            divergences.entropy(lprobs),
            divergences.entropy(teacher_lprobs),
            lprobs.argmax(-1).eq(targets) if objective.accuracy else torch.zeros_like(nll),
        )


# -- the walk over the chunks ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    learner: Output
    teachers: list[Output]
    targets: Tensor
    objective: Objective
    chunk_rows: int
    gradient: bool

    def walk(self, sums: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Add every chunk's sums to ``sums``; yield its rows and the gradient of its logits.

        Autocast is off inside: it would round the logits to half precision.
        """
        for start in range(0, len(self.targets), self.chunk_rows):
            rows = slice(start, start + self.chunk_rows)
            with torch.autocast(self.targets.device.type, enabled=False):
                teacher = teacher_log_probs(self.teachers, rows)
                logits = self.learner.logits(rows).requires_grad_(self.gradient)
                with torch.set_grad_enabled(self.gradient):
                    lprobs = torch.log_softmax(logits, dim=-1)
                    losses = row_losses(lprobs, teacher, self.targets[rows], self.objective)
                    loss = losses.loss.sum()
                sums += torch.stack([part.detach().sum(dtype=sums.dtype) for part in losses])
                if self.gradient:
                    yield rows, torch.autograd.grad(loss, logits)[0]


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Work, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        sums = torch.zeros(
            len(TransferLoss._fields), dtype=torch.float64, device=work.targets.device
        )
        # In float32 or better, whatever the model's precision: this gradient has not been through
        # the loss scaler yet, and small values would be lost in half precision.
        gradients = [
            torch.zeros_like(wide(tensor)) if work.gradient and needed else None
            for tensor, needed in zip(inputs, ctx.needs_input_grad[1:], strict=True)
        ]
        for rows, of_logits in work.walk(sums):
            work.learner.add_gradients(rows, of_logits, gradients)
        ctx.gradients = gradients
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        loss, *parts = (part.clone() for part in sums)
        ctx.mark_non_differentiable(*parts)
        return (loss, *parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        return None, *(
            None if gradient is None else (gradient * of_loss).to(dtype)
            for gradient, dtype in zip(ctx.gradients, ctx.dtypes, strict=True)
        )
