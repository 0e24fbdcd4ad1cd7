"""The generalized Jensen–Shannon divergence, between the two KLs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term, not_negative
from ka_fairseq.loss.divergences.kl import BACKWARD_KL, FORWARD_KL
from ka_fairseq.loss.divergences.mixtures import log_of_mixture
from ka_fairseq.loss.divergences.options import option
from ka_fairseq.loss.divergences.registry import register_divergence
from ka_fairseq.ranges import Range

# If β is this near to 0 or 1, rounding exceeds the difference between D and the KL at that end.
AT_AN_END = 1e-7


@register_divergence("js")
@dataclass(frozen=True)
class JensenShannon(Divergence):
    """The generalized Jensen–Shannon divergence; β = ½ is the Jensen–Shannon divergence itself.

    The bracket alone goes to zero at both ends, as β·KL(q‖p) and (1 − β)·KL(p‖q). The factor c
    makes D one of the KLs at each end, and is 1 for β = ½. So β chooses between the KLs, and does
    not also change the weight of D.

    Formula: c·[β·KL(q‖m) + (1 − β)·KL(p‖m)] with m = β·q + (1 − β)·p and c = 1/(β(1 − β)) − 3;
        forward KL for β = 0, backward KL for β = 1
    Source: Lin 1991; with β: Agarwal et al. 2024 (GKD), arXiv 2306.13649
    When: a KL's long tails do harm; at β = ½, D is at most log 2 a position, even if the
        teacher rules out the student's tokens

    Attributes:
        beta: β in [0, 1], the teacher's share of the mixture.
    """

    beta: float = option(
        "--js-beta",
        default=0.5,
        help="β: 0 is forward KL, 0.5 is Jensen–Shannon, 1 is backward KL",
        valid=Range(0, 1),
    )
    more_tensors = 1

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield value and derivatives; ∂/∂log p = c·(1 − β)·p·log(p/m)."""
        beta = self.beta
        if not AT_AN_END < beta < 1 - AT_AN_END:
            yield from (FORWARD_KL if beta < 0.5 else BACKWARD_KL).terms(p, q)
            return
        scale = 1 / (beta * (1 - beta)) - 3
        d = p.lprobs - q.lprobs
        of_teacher = log_of_mixture(d, beta).mul_(q.probs)
        slope = log_of_mixture(d.neg_(), 1 - beta).mul_(p.probs).mul_(-scale * (1 - beta))
        slope_sum = slope.sum(-1)
        value = slope_sum - scale * beta * of_teacher.sum(-1)
        yield 1.0, Term(not_negative(value), slope, slope_sum)
