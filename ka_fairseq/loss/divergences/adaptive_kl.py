"""Forward and backward KL, weighted at each position by the student's errors in head and tail."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ka_fairseq.loss.distribution import Distribution, best_tokens
from ka_fairseq.loss.divergences.base import Divergence, Term, not_negative
from ka_fairseq.loss.divergences.options import option
from ka_fairseq.loss.divergences.registry import register_divergence
from ka_fairseq.ranges import Range

# On a CPU, the head is searched among this many best types, and then among more types if these do
# not contain the head. Sorting all types takes many times as long.
USUAL_HEADS = (8, 64)


@register_divergence("adaptive_kl")
@dataclass(frozen=True)
class AdaptiveKL(Divergence):
    """Forward KL for the student's error in the head, backward KL for its error in the tail.

    The head is the teacher's best type, and the next best types while their total mass is at most
    μ. The weights count as constants in the gradient.

    Formula: w·KL(q‖p) + (1 − w)·KL(p‖q) with w = Σ_head |q − p| / Σ_y |q − p|, a constant for the
        gradient
    Source: Wu et al. 2024 (AKL), arXiv 2404.02657
    When: both KLs are wanted without tuning their shares; forward KL fits the head first, backward
        KL the tail

    Attributes:
        head: μ in (0, 1), the most mass of the teacher that the head may hold.
    """

    head: float = option(
        "--akl-head",
        default=0.5,
        help="μ, the most mass of the teacher that the head may hold",
        valid=Range(0, 1, without_least=True, without_most=True),
    )
    compiles = False
    more_tensors = 6

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield value and derivatives; ∂/∂log p = (1 − w)·p·(d + 1) − w·q, d = log p − log q."""
        d = p.lprobs - q.lprobs
        forward_share = head_share(p, q, self.head)
        backward_share = 1 - forward_share
        of_forward = torch.linalg.vecdot(q.probs, d).neg_()
        slope = d.mul_(p.probs)
        of_backward = slope.sum(-1)
        value = forward_share * not_negative(of_forward)
        value = value + backward_share * not_negative(of_backward)
        along = backward_share.unsqueeze(-1)
        slope = slope.mul_(along).addcmul_(q.probs, forward_share.unsqueeze(-1), value=-1)
        yield 1.0, Term(value, slope, slope.sum(-1), along=along)


def head_share(p: Distribution, q: Distribution, mass: float) -> Tensor:
    """Return Σ_head |q − p| / Σ_y |q − p|, shape (n,); 0 where p = q.

    Args:
        p: the student's distribution.
        q: the teacher's distribution.
        mass: the most mass of q that the head may hold; the best type always belongs to the head.
    """
    total = (q.probs - p.probs).abs_().sum(-1)
    return _head_gap(p, q, mass) / total.clamp_(min=torch.finfo(total.dtype).tiny)


def _head_gap(p: Distribution, q: Distribution, mass: float) -> Tensor:
    """Return Σ_head |q − p|, shape (n,)."""
    if q.probs.device.type != "cpu":
        return _gap_among(p.probs, q.probs, None, mass)[0]
    gap = q.probs.new_empty(len(q.probs))
    left = torch.arange(len(gap))
    for size in (*(size for size in USUAL_HEADS if size < q.probs.size(-1)), None):
        of_p, of_q = (p.probs, q.probs) if len(left) == len(gap) else (p.probs[left], q.probs[left])
        candidates = None if size is None else best_tokens(of_q, size)
        gap[left], held = _gap_among(of_p, of_q, candidates, mass)
        left = left[held.le(mass)]  # on a CPU, indexing waits for nothing
        if not len(left):
            break
    return gap


def _gap_among(
    p: Tensor, q: Tensor, candidates: Tensor | None, mass: float
) -> tuple[Tensor, Tensor]:
    """Return Σ_head |q − p| over candidate types, (n, k), and their mass; None means all types."""
    if candidates is not None:
        p, q = p.gather(-1, candidates), q.gather(-1, candidates)
    q, order = q.sort(-1, descending=True)
    held = q.cumsum(-1)
    in_head = held.le(mass)
    in_head[:, 0] = True
    gap = (q - p.gather(-1, order)).abs_().mul_(in_head).sum(-1)
    return gap, held[:, -1]
