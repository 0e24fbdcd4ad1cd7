"""Compute a divergence as a differentiable function of log-probabilities."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence


def values(divergence: Divergence, learner_lprobs: Tensor, teacher_lprobs: Tensor) -> Tensor:
    """Return D of each row, differentiable in the student's log-probabilities.

    Args:
        divergence: D.
        learner_lprobs: log p, shape (N, V).
        teacher_lprobs: log q, shape (N, V).

    Returns:
        Shape (N,), in nats, not averaged; float32 or better.

    Raises:
        ValueError: shapes differ.
    """
    if learner_lprobs.shape != teacher_lprobs.shape or learner_lprobs.dim() != 2:
        raise ValueError(
            "student and teacher log-probabilities must both have the shape (N, V), "
            f"not {tuple(learner_lprobs.shape)} and {tuple(teacher_lprobs.shape)}"
        )
    return _OfLogProbs.apply(learner_lprobs, teacher_lprobs.detach(), divergence)


class _OfLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, learner: Tensor, teacher: Tensor, divergence: Divergence) -> Tensor:
        p, q = Distribution(learner), Distribution(teacher)
        values = torch.zeros_like(p.lprobs[:, 0])
        gradient = torch.zeros_like(p.lprobs)
        for share, term in divergence.terms(p, q):
            values += share * term.value
            term.add_to(gradient, share)
            gradient += share * term.along * p.probs
        ctx.save_for_backward(gradient)
        ctx.dtype = learner.dtype
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_values: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return (gradient * of_values.unsqueeze(-1)).to(ctx.dtype), None, None
