"""The two KLs, each to a mixture of both distributions."""

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
    """What both have: α.

    Attributes:
        alpha: α in [0, 1), the share of the mixture that is the distribution itself.
    """

    alpha: float = option(
        "--skew-alpha",
        default=0.1,
        help="α, how much of the mixture is the distribution itself",
        valid=Range(0, 1, without_most=True),
    )
    more_tensors = 1


@register_divergence("skew_forward_kl")
@dataclass(frozen=True)
class SkewForwardKL(_Skewed):
    """The forward KL to a mixture of teacher and learner.

    Formula: KL(q‖m) with m = α·q + (1 − α)·p; forward KL for α = 0
    Source: Lee 2001; Ko et al. 2024 (DistiLLM), arXiv 2402.03898
    When: forward KL's gradients are unsteady where the learner gives next to nothing to what the
        teacher says; D is at most −log α
    """

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Value and derivatives; ∂/∂log p = −q·(1 − α)·p/m."""
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
    """The backward KL to a mixture of learner and teacher.

    Formula: KL(p‖m) with m = α·p + (1 − α)·q; backward KL for α = 0
    Source: Lee 2001; Ko et al. 2024 (DistiLLM), arXiv 2402.03898
    When: backward KL's gradients are unsteady where the learner says what the teacher rules out;
        D is at most −log α
    """

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Value and derivatives; ∂/∂log p = p·(log(p/m) + (1 − α)·q/m)."""
        if not self.alpha:
            yield from BACKWARD_KL.terms(p, q)
            return
        d = q.lprobs - p.lprobs
        of_mixture = log_of_mixture(d, self.alpha)
        value = (of_mixture * p.probs).sum(-1).neg()
        slope = other_part(d, self.alpha).sub_(of_mixture).mul_(p.probs)
        yield 1.0, Term(not_negative(value), slope, slope.sum(-1))
