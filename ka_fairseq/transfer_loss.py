"""From hidden states and output projections to (1 − λ)·NLL + λ·D, with its gradient, in chunks.

The loss walks the N target positions in chunks of rows. A chunk's logits become their own gradient
and are gone before the next chunk begins, so memory does not grow with N·V; what is kept for the
backward pass is the gradient of the hidden states and of the output projection. Nothing is computed
a second time. Inside a chunk the softmaxes and the divergence go over blocks of rows that fit into
a CPU's cache: all passes but the first find them there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ka_fairseq.chunking import block_rows, chunk_rows, slices
from ka_fairseq.distribution import Distribution
from ka_fairseq.divergences import Divergence, Term
from ka_fairseq.output_layer import Output
from ka_fairseq.teacher_output import GatheredDistribution, TeacherOutput, averaged_softmax


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
        divergence: D, see :mod:`ka_fairseq.divergences`.
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
    teacher: TeacherOutput,
    targets: Tensor,
    objective: Objective,
    rows_per_chunk: int = 0,
    compiled: bool = False,
) -> TransferLoss:
    """(1 − λ)·NLL + λ·D, summed over all positions, and its parts.

    Args:
        learner: N positions.
        teacher: the same N positions of the teacher.
        targets: the reference tokens, shape (N,). No padding: drop it before.
        objective: divergence, λ and label smoothing.
        rows_per_chunk: how many positions are worked on at a time; 0 chooses by the vocabulary
            and the device, see :mod:`ka_fairseq.chunking`. It changes memory and speed, and the
            result to rounding only.
        compiled: have torch.compile fuse what is done to a block of logits.

    Returns:
        Sums in nats. With N = 0 the loss is 0 and still belongs to the learner's graph.
    """
    vocabulary = learner.vocabulary
    distributions = 1 + len(teacher.members)
    work = _Work(
        learner=learner.prepare(),
        teacher=teacher.prepare(),
        targets=targets,
        objective=objective,
        rows_per_chunk=rows_per_chunk or chunk_rows(vocabulary, distributions, targets.device),
        whole_teacher=not teacher.can_be_gathered(objective.divergence.top_k)
        or objective.divergence.needs_whole_teacher(vocabulary),
        gradient=torch.is_grad_enabled(),
        compiled=compiled,
    )
    return TransferLoss(*_ChunkedLoss.apply(work, *learner.inputs))


def label_smoothed_nll(p: Distribution, targets: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The smoothed and the plain −log p(target), each of shape (n,), in nats.

    As fairseq's ``label_smoothed_nll_loss``: (1 − ε − ε/(V−1))·NLL + ε/(V−1)·Σ_y −log p(y).
    """
    nll = -p.at(targets.unsqueeze(-1)).squeeze(-1)
    if not epsilon:
        return nll, nll
    at_target, each = _smoothing(epsilon, p.lprobs.size(-1))
    return at_target * nll - each * p.lprobs.sum(-1), nll


def row_losses(
    p: Distribution,
    terms: list[tuple[float, Term]],
    teacher_entropy: Tensor,
    targets: Tensor,
    objective: Objective,
) -> TransferLoss:
    """The loss of every row and its parts, each of shape (n,), in nats."""
    smoothed, nll = label_smoothed_nll(p, targets, objective.label_smoothing)
    divergence = sum(share * term.value for share, term in terms)
    weight = objective.transfer_weight
    # λ = 1 leaves the NLL out, rather than adding 0 · NLL, which is NaN where p(target) is 0.
    loss = divergence if weight == 1 else (1 - weight) * smoothed + weight * divergence
    correct = p.lprobs.argmax(-1).eq(targets) if objective.accuracy else torch.zeros_like(nll)
    return TransferLoss(loss, nll, divergence, p.entropy, teacher_entropy, correct.to(nll))


def logit_gradient(
    p: Distribution,
    terms: list[tuple[float, Term]],
    targets: Tensor,
    objective: Objective,
    out: Tensor,
) -> None:
    """Write the gradient of the rows' losses by the learner's logits, shape (n, V), to ``out``.

    For s = ∂D/∂log p, target t and smoothing ε with e = ε/(V−1):

        (1 − λ)·[p(y) − (1 − ε − e)·1(y = t) − e] + λ·[s(y) − p(y)·Σ_v s(v)].
    """
    weight, epsilon = objective.transfer_weight, objective.label_smoothing
    slope_sum = sum(share * term.sign * term.slope_sum for share, term in terms)
    torch.mul(p.probs, ((1 - weight) - weight * slope_sum).unsqueeze(-1), out=out)
    for share, term in terms:
        term.add_to(out, weight * share)
    if weight == 1:
        return
    at_target, each = _smoothing(epsilon, out.size(-1))
    if epsilon:
        out.sub_((1 - weight) * each)
    targets = targets.unsqueeze(-1)
    out.scatter_add_(-1, targets, out.new_full(targets.shape, -(1 - weight) * at_target))


def _smoothing(epsilon: float, vocabulary: int) -> tuple[float, float]:
    """What the smoothed target distribution gives to the target beside ``each``, and to each."""
    each = epsilon / (vocabulary - 1)
    return 1.0 - epsilon - each, each


# -- a block ---------------------------------------------------------------------------------------


def block_losses(
    logits: Tensor,
    q: Distribution | GatheredDistribution,
    teacher_entropy: Tensor,
    targets: Tensor,
    objective: Objective,
    gradient: bool,
) -> TransferLoss:
    """The losses of n rows; with ``gradient``, their gradient is written over their logits."""
    p = Distribution.of_logits(logits)
    terms = list(objective.divergence.terms(p, q))
    losses = row_losses(p, terms, teacher_entropy.to(logits.dtype), targets, objective)
    if gradient:
        logit_gradient(p, terms, targets, objective, out=logits)
    return losses


def whole_block(
    logits: Tensor,
    teacher_logits: list[Tensor],
    teacher_entropy: Tensor | None,
    targets: Tensor,
    objective: Objective,
    gradient: bool,
) -> TransferLoss:
    """As :func:`block_losses`, from the teachers' logits and their entropy where it is known."""
    q = averaged_softmax(teacher_logits)
    entropy = q.entropy if teacher_entropy is None else teacher_entropy
    return block_losses(logits, q, entropy, targets, objective, gradient)


@functools.cache
def compiled_block() -> Callable[..., TransferLoss]:
    """:func:`whole_block` by torch.compile, which takes seconds to import alone.

    Shapes are dynamic, as every batch has another number of rows.
    """
    return torch.compile(whole_block, dynamic=True)


# -- the walk over the chunks ----------------------------------------------------------------------


@dataclass(frozen=True)
class _Work:
    learner: Output
    teacher: TeacherOutput
    targets: Tensor
    objective: Objective
    rows_per_chunk: int
    whole_teacher: bool
    gradient: bool
    compiled: bool

    def walk(self, values: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Write every row's losses to ``values``, shape (N, parts); yield the chunks.

        With gradients wanted, a chunk is its rows and the gradient of their logits.
        """
        for rows in slices(len(self.targets), self.rows_per_chunk):
            logits = self.learner.logits(rows)
            teacher_logits = self.teacher.logits(rows) if self.whole_teacher else []
            for block in slices(len(logits), block_rows(logits)):
                here = slice(rows.start + block.start, rows.start + block.stop)
                self.block(logits[block], [of[block] for of in teacher_logits], here, values)
            del teacher_logits  # before the gradients' products need room
            if self.gradient:
                yield rows, logits

    def block(
        self, logits: Tensor, teacher_logits: list[Tensor], rows: slice, values: Tensor
    ) -> None:
        """The losses of some rows to ``values``, and their gradient over their own logits."""
        if self.whole_teacher:
            softmaxes = compiled_block() if self.compiled else whole_block
            known = None if self.teacher.entropy is None else self.teacher.entropy[rows]
            losses = softmaxes(
                logits, teacher_logits, known, self.targets[rows], self.objective, self.gradient
            )
        else:
            q = GatheredDistribution(self.teacher, rows)
            losses = block_losses(
                logits, q, q.entropy, self.targets[rows], self.objective, self.gradient
            )
        torch.stack(losses, dim=-1, out=values[rows])


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Work, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        # In float32 or better, whatever the model's precision: this gradient has not been through
        # the loss scaler yet, and small values would be lost in half precision.
        dtype = torch.promote_types(inputs[0].dtype, torch.float32)
        make = torch.empty_like if len(work.targets) else torch.zeros_like
        gradients = [
            make(tensor, dtype=dtype) if work.gradient and needed else None
            for tensor, needed in zip(inputs, ctx.needs_input_grad[1:], strict=True)
        ]
        shape = (len(work.targets), len(TransferLoss._fields))
        values = torch.empty(shape, dtype=dtype, device=work.targets.device)
        # Autocast would round the logits to half precision.
        with torch.autocast(work.targets.device.type, enabled=False):
            for rows, of_logits in work.walk(values):
                work.learner.add_gradients(rows, of_logits, gradients)
        ctx.gradients = gradients
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        loss, *parts = (part.clone() for part in values.sum(0, dtype=torch.float64))
        ctx.mark_non_differentiable(*parts)
        return (loss, *parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError("the loss's gradients were handed out by an earlier backward pass")
        gradients, ctx.gradients = ctx.gradients, None
        return None, *(
            None if gradient is None else _scaled(gradient, of_loss).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )


def _scaled(gradient: Tensor, scale: Tensor) -> Tensor:
    """gradient · scale, in place; nothing to do in the usual case on a CPU, where scale is 1.

    On a GPU the comparison would have to wait for it.
    """
    return gradient if scale.device.type == "cpu" and scale == 1 else gradient.mul_(scale)
