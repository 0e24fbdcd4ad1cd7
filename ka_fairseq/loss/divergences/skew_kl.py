"""Skewed KLs: KLs from one distribution to a mixture of the two distributions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term, not_negative
from ka_fairseq.loss.divergences.kl import BACKWARD_KL, FORWARD_KL
from ka_fairseq.loss.divergences.mixtures import log_of_mixture, other_part
from ka_fairseq.loss.divergences.options import option
from ka_fairseq.loss.divergences.registry import register_divergence
from ka_fairseq.ranges import Range


@dataclass(frozen=True)
class _Skewed(Divergence):
    """The option that both skewed KLs share: α.

    Attributes:
        alpha: α in [0, 1), the mixture's share of the first distribution of the KL.
    """

    alpha: float = option(
        "--skew-alpha",
        default=0.1,
        help="α, the mixture's share of the KL's first distribution",
        valid=Range(0, 1, without_most=True),
    )
    more_tensors = 1


@register_divergence("skew_forward_kl")
@dataclass(frozen=True)
class SkewForwardKL(_Skewed):
    """The forward KL, from the teacher to a mixture of teacher and student.

    Formula: KL(q‖m) with m = α·q + (1 − α)·p; forward KL for α = 0
    Source: Lee 2001; Ko et al. 2024 (DistiLLM), arXiv 2402.03898
    When: forward KL's gradients are unsteady, because the student gives the teacher's tokens almost
        no probability; D is at most −log α
    """

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield value and derivatives; ∂/∂log p = −q·(1 − α)·p/m."""
        if not self.alpha:
            yield from FORWARD_KL.terms(p, q)
            return
        d = p.lprobs - q.lprobs
        value = log_of_mixture(d, self.alpha).mul_(q.probs).sum(-1).neg()
        slope = other_part(d, self.alpha).mul_(q.probs)
        yield 1.0, Term(not_negative(value), slope, slope.sum(-1), sign=-1)


@register_divergence("skew_backward_kl")
@dataclass(frozen=True)
class SkewBackwardKL(_Skewed):
    """The backward KL, from the student to a mixture of student and teacher.

    Formula: KL(p‖m) with m = α·p + (1 − α)·q; backward KL for α = 0
    Source: Lee 2001; Ko et al. 2024 (DistiLLM), arXiv 2402.03898
    When: backward KL's gradients are unsteady, because the student gives probability to tokens that
        the teacher rules out; D is at most −log α
    """

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield value and derivatives; ∂/∂log p = p·(log(p/m) + (1 − α)·q/m)."""
        if not self.alpha:
            yield from BACKWARD_KL.terms(p, q)
            return
        d = q.lprobs - p.lprobs
        of_mixture = log_of_mixture(d, self.alpha)
        value = (of_mixture * p.probs).sum(-1).neg()
        slope = other_part(d, self.alpha).sub_(of_mixture).mul_(p.probs)
        yield 1.0, Term(not_negative(value), slope, slope.sum(-1))
