"""Compute the loss and its gradient in chunks, from hidden states and output projections.

The loss handles the N target positions in chunks of rows. In each chunk, the gradient overwrites
the logits. The chunk's memory is freed before the next chunk. So memory does not grow with N·V.
Only the gradients of the hidden states and of the output projection are kept for the backward pass.
Nothing is computed twice.

Inside a chunk, the softmaxes and the divergence work on blocks of rows that fit into a CPU's cache.
Only the first pass over a block reads main memory.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ka_fairseq.loss import kernels
from ka_fairseq.loss.chunks import SOFTENED, block_rows, chunk_rows, slices
from ka_fairseq.loss.cross_entropy import CrossEntropy, row_cross_entropies
from ka_fairseq.loss.distribution import Distribution, best_token
from ka_fairseq.loss.ensemble import GatheredDistribution, TeacherOutput
from ka_fairseq.loss.hard_positions import HardPositions
from ka_fairseq.loss.matmul import autocast_dtype
from ka_fairseq.loss.objective import Objective, TransferLoss, label_smoothed_nll, row_losses
from ka_fairseq.loss.projection import Output

# Number of rows for trying a kernel. torch.compile treats a single row as a special case.
TRIAL_ROWS = 2


def transfer_loss(
    learner: Output,
    teacher: TeacherOutput,
    targets: Tensor,
    objective: Objective,
    rows_per_chunk: int = 0,
    kernel: str = "auto",
    predictions: Tensor | None = None,
    hard: HardPositions | None = None,
) -> TransferLoss:
    """Return (1 − λ)·NLL + λ·D, summed over all positions, and its parts.

    Args:
        learner: the student's output at N positions.
        teacher: the teacher's output at the same N positions.
        targets: the reference tokens, shape (N,), without padding.
        objective: divergence, λ, label smoothing and temperature.
        rows_per_chunk: number of positions in a chunk; 0 chooses by the vocabulary and the device,
            see :mod:`ka_fairseq.loss.chunks`. The number changes memory and speed, and the
            result only by rounding.
        kernel: the code that computes a block's losses from its logits, one of
            :data:`.kernels.KERNELS`.
        predictions: receives the student's best token of each position, shape (N,), int64.
        hard: chooses the positions where D counts; None chooses all positions.

    Returns:
        Sums in nats; only ``loss`` has a gradient. With N = 0 the loss is 0 and still belongs to
        the student's graph.
    """
    vocabulary, divergence = learner.vocabulary, objective.divergence
    if not rows_per_chunk:
        more = divergence.more_tensors + (SOFTENED if objective.temperature != 1 else 0)
        distributions = 1 + len(teacher.members)
        rows_per_chunk = chunk_rows(vocabulary, distributions, targets.device, more)
    work = _TransferWork(
        learner=learner.prepare(autocast_dtype(targets.device)),
        teacher=teacher.prepare(),
        targets=targets,
        objective=objective,
        rows_per_chunk=rows_per_chunk,
        whole_teacher=objective.temperature != 1
        or divergence.needs_whole_teacher(vocabulary)
        or not teacher.can_be_gathered(divergence.top_k),
        gradient=torch.is_grad_enabled(),
        predictions=predictions,
        hard=hard,
    )
    if hard is not None:
        hard.begin(functools.partial(position_nll, work.learner, targets, rows_per_chunk))
    if len(targets) >= TRIAL_ROWS:  # enough rows to try a kernel
        fuses = len(teacher.members) == 1 and _as_float32(learner) and _as_float32(*teacher.members)
        chosen = kernels.choose(
            *(kernel, divergence, vocabulary, targets.device, fuses), work.try_kernel
        )
        work = replace(work, kernel=chosen)
    return TransferLoss(*_ChunkedLoss.apply(work, *learner.inputs))


def cross_entropy(
    learner: Output,
    targets: Tensor,
    epsilon: float,
    rows_per_chunk: int = 0,
    accuracy: bool = False,
) -> CrossEntropy:
    """Return fairseq's label-smoothed NLL, summed over all positions, and its parts.

    Args:
        learner: the student's output at N positions.
        targets: the reference tokens, shape (N,), without padding.
        epsilon: ε, the label smoothing.
        rows_per_chunk: see :func:`transfer_loss`.
        accuracy: whether to count the positions whose best token is the target.

    Returns:
        Sums in nats; only ``loss`` has a gradient.
    """
    if not rows_per_chunk:
        rows_per_chunk = chunk_rows(learner.vocabulary, 1, targets.device)
    work = _CrossEntropyWork(
        learner=learner.prepare(autocast_dtype(targets.device)),
        targets=targets,
        rows_per_chunk=rows_per_chunk,
        gradient=torch.is_grad_enabled(),
        epsilon=epsilon,
        accuracy=accuracy,
    )
    return CrossEntropy(*_ChunkedLoss.apply(work, *learner.inputs))


def position_nll(learner: Output, targets: Tensor, rows_per_chunk: int) -> Tensor:
    """Return −log p(target) of each position, (N,), in nats, in chunks and without a gradient."""
    parts = []
    with torch.no_grad(), torch.autocast(targets.device.type, enabled=False):
        for rows in slices(len(targets), rows_per_chunk):
            logits = learner.logits(rows)
            for block, here in _blocks(logits, rows):
                p = Distribution.of_logits(logits[block])
                parts.append(label_smoothed_nll(p, targets[here], 0.0)[1])
    return torch.cat(parts) if parts else targets.new_empty(0, dtype=torch.float32)


def _as_float32(output: Output) -> bool:
    """Return whether the logits are float32; only a float64 model has other logits."""
    return torch.promote_types(output.inputs[0].dtype, torch.float32) == torch.float32


@functools.cache
def compiled_row_losses() -> Callable[..., TransferLoss]:
    """Return :func:`.objective.row_losses`, compiled by torch.compile.

    The compiler is imported at the first call, because the import takes seconds.
    Shapes are dynamic, because every batch has another number of rows. With ``fullgraph``, the
    compiler raises an error for code that it cannot compile. Without it, the compiler would leave
    such code uncompiled, and say nothing.
    """
    return torch.compile(row_losses, dynamic=True, fullgraph=True)


def _blocks(logits: Tensor, rows: slice) -> Iterator[tuple[slice, slice]]:
    """Yield for each block its rows in the chunk's logits, and its rows among all positions."""
    for block in slices(len(logits), block_rows(logits)):
        yield block, slice(rows.start + block.start, rows.start + block.stop)


@dataclass(frozen=True, kw_only=True)
class _Work(abc.ABC):
    """The input of the loop over the chunks. Its tensors have no autograd graph."""

    parts: ClassVar[type[tuple]]
    """The named tuple type of a row's values. The first field is the loss."""

    learner: Output
    targets: Tensor
    rows_per_chunk: int
    gradient: bool

    @abc.abstractmethod
    def losses_of_chunk(self, rows: slice, values: Tensor) -> Tensor:
        """Write the losses of some rows to ``values``, shape (N, parts), block by block.

        Returns:
            The gradient of these rows' logits, shape (n, V); the logits if ``gradient`` is false.
        """

    @abc.abstractmethod
    def end(self, values: Tensor) -> None:
        """Receive the losses of all rows, shape (N, parts)."""


@dataclass(frozen=True, kw_only=True)
class _CrossEntropyWork(_Work):
    parts = CrossEntropy

    epsilon: float
    accuracy: bool

    def losses_of_chunk(self, rows: slice, values: Tensor) -> Tensor:
        logits = self.learner.logits(rows)
        for block, here in _blocks(logits, rows):
            losses = row_cross_entropies(
                *(logits[block], self.targets[here], self.epsilon, self.gradient, self.accuracy)
            )
            torch.stack(losses, dim=-1, out=values[here])
        return logits

    def end(self, values: Tensor) -> None:
        pass  # not needed


@dataclass(frozen=True, kw_only=True)
class _TransferWork(_Work):
    parts = TransferLoss

    teacher: TeacherOutput
    objective: Objective
    whole_teacher: bool
    predictions: Tensor | None
    hard: HardPositions | None
    kernel: str = kernels.EAGER

    def try_kernel(self, kernel: str) -> None:
        """Compute the first rows with a kernel; this also compiles the kernel if needed."""
        dtype = torch.promote_types(self.learner.inputs[0].dtype, torch.float32)
        values = self.targets.new_empty(TRIAL_ROWS, len(self.parts._fields), dtype=dtype)
        with torch.no_grad(), torch.autocast(self.targets.device.type, enabled=False):
            replace(self, kernel=kernel).losses_of_chunk(slice(0, TRIAL_ROWS), values)
        if values.is_cuda:
            torch.cuda.synchronize(values.device)  # a failing kernel raises its error here

    def losses_of_chunk(self, rows: slice, values: Tensor) -> Tensor:
        if self.kernel == kernels.TRITON:
            return self._fused_losses(rows, values)
        losses_of = compiled_row_losses() if self.kernel == kernels.COMPILED else row_losses
        logits = self.learner.logits(rows)
        of_teacher = self.teacher.logits(rows) if self.whole_teacher else []
        more = () if self.hard is None else (self.hard.threshold,)
        for block, here in _blocks(logits, rows):
            teacher = (
                [of_member[block] for of_member in of_teacher]
                if self.whole_teacher
                else GatheredDistribution(self.teacher, here)
            )
            entropy = None if self.teacher.entropy is None else self.teacher.entropy[here]
            if self.predictions is not None:  # before the gradient is written over the logits
                self.predictions[here] = best_token(logits[block])
            losses = losses_of(
                *(logits[block], teacher, entropy, self.targets[here]),
                *(self.objective, self.gradient, *more),
            )
            torch.stack(losses, dim=-1, out=values[here])
        return logits

    def _fused_losses(self, rows: slice, values: Tensor) -> Tensor:
        """Write the losses of these rows with one kernel; see :meth:`losses_of_chunk`."""
        from ka_fairseq.loss.row_kernel import fused_row_losses

        entropy, hard, predictions = self.teacher.entropy, self.hard, self.predictions
        losses, of_logits = fused_row_losses(
            self.learner.logits(rows),
            *self.teacher.logits(rows),
            None if entropy is None else entropy[rows],
            self.targets[rows],
            self.objective,
            self.learner.gradient_dtype if self.gradient else None,
            None if hard is None else hard.threshold,
            None if predictions is None else predictions[rows],
        )
        torch.stack(losses, dim=-1, out=values[rows])
        return of_logits

    def end(self, values: Tensor) -> None:
        if self.hard is not None:
            self.hard.end(values[:, TransferLoss._fields.index("nll_loss")])


class _ChunkedLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, work: _Work, *inputs: Tensor | None) -> tuple[Tensor, ...]:
        # float32 or better, for any model. The loss scaler has not scaled this gradient yet, so
        # half precision would lose small values.
        dtype = torch.promote_types(inputs[0].dtype, torch.float32)
        make = torch.empty_like if len(work.targets) else torch.zeros_like
        gradients = [
            make(tensor, dtype=dtype) if work.gradient and needed else None
            for tensor, needed in zip(inputs, ctx.needs_input_grad[1:], strict=True)
        ]
        shape = (len(work.targets), len(work.parts._fields))
        values = torch.empty(shape, dtype=dtype, device=work.targets.device)
        # Autocast would round the logits to half precision.
        with torch.autocast(work.targets.device.type, enabled=False):
            for rows in slices(len(work.targets), work.rows_per_chunk):
                of_logits = work.losses_of_chunk(rows, values)
                if work.gradient:
                    work.learner.add_gradients(rows, of_logits, gradients)
                del of_logits  # frees the memory before the next chunk
        work.end(values)
        ctx.gradients = gradients
        ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs]
        loss, *parts = (part.clone() for part in values.sum(0, dtype=torch.float64))
        ctx.mark_non_differentiable(*parts)
        return (loss, *parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.gradients is None:
            raise RuntimeError(
                "an earlier backward pass used up the loss's gradients: compute the loss again"
            )
        gradients, ctx.gradients = ctx.gradients, None
        return None, *(
            None if gradient is None else _scaled(gradient, of_loss).to(dtype)
            for gradient, dtype in zip(gradients, ctx.dtypes, strict=True)
        )


def _scaled(gradient: Tensor, scale: Tensor) -> Tensor:
    """Multiply a gradient by a scale, in place; on a CPU, skip the usual scale of 1.

    On a GPU, comparing the scale with 1 would wait for the GPU.
    """
    return gradient if scale.device.type == "cpu" and scale == 1 else gradient.mul_(scale)
