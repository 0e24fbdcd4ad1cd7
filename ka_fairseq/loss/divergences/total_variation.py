"""The total variation distance."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term
from ka_fairseq.loss.divergences.registry import register_divergence


@register_divergence("tvd")
@dataclass(frozen=True)
class TotalVariation(Divergence):
    """Half the sum of absolute differences: the probability mass that has to move from p to q.

    The slope does not shrink as p approaches q. The slope is 0 where p = q.

    Formula: ½ Σ_y |p − q|
    Source: Wen et al. 2023 (f-DISTILL), arXiv 2307.15190
    When: neither mode-covering nor mode-seeking is wanted; D lies between 0 and 1 a position
    """

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield value and derivatives; ∂/∂log p = ½·p·sign(p − q)."""
        difference = p.probs - q.probs
        value = difference.abs().sum(-1).mul_(0.5)
        slope = difference.sign_().mul_(p.probs).mul_(0.5)
        yield 1.0, Term(value, slope, slope.sum(-1))
