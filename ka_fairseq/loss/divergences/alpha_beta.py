"""The α-β divergence."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term, not_negative
from ka_fairseq.loss.divergences.options import option
from ka_fairseq.loss.divergences.registry import register_divergence
from ka_fairseq.ranges import Range

# Between 0 and this, differences of powers have too few digits in float32.
EXPONENTS = Range(0.01, 10, or_zero=True)


@register_divergence("alpha_beta")
@dataclass(frozen=True)
class AlphaBeta(Divergence):
    """Two exponents between forward KL (1, 0) and backward KL (0, 1), and beyond them.

    A smaller α makes more of types where p and q are far apart, a larger β more of those that the
    learner is sure of. α = β = ½ is four times Hellinger's squared distance.

    Formula: 1/(αβ) Σ_y [α/(α + β)·q^(α + β) + β/(α + β)·p^(α + β) − q^α·p^β]; where α or β is 0,
        the limit
    Source: Cichocki et al. 2011; Wang et al. 2025 (ABKD), arXiv 2505.04560
    When: the two KLs are too far apart, and there is time to tune two numbers on validation

    Attributes:
        alpha: α, the teacher's exponent: 0, or 0.01 at the least.
        beta: β, the learner's: likewise, and not 0 where α is.

    Raises:
        ValueError: α or β is none of these, or both are 0.
    """

    alpha: float = option("--ab-alpha", 0.5, "α, the teacher's exponent", EXPONENTS)
    beta: float = option("--ab-beta", 0.5, "β, the learner's exponent", EXPONENTS)
    more_tensors = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == self.beta == 0:
            raise ValueError("--ab-alpha and --ab-beta must not both be 0")

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Value and derivatives; ∂/∂log p = p^β·(p^α − q^α)/α.

        With δ_e = (p^e − q^e)/e, for e = 0 log p − log q, the value's terms are
        [δ_(α+β) − q^α·δ_β]/α, or [p^β·δ_0 − δ_β]/β for α = 0.
        """
        alpha, beta = self.alpha, self.beta
        p_beta = _power(p, beta)
        q_alpha = _power(q, alpha) if alpha else None
        # Powers are what takes time on a CPU: with equal exponents there is one of each to make.
        p_alpha, q_beta = (p_beta, q_alpha) if alpha == beta else (None, None)
        of_beta = _difference(p, q, beta, p_beta, q_beta)
        if alpha:
            p_alpha = _power(p, alpha) if p_alpha is None else p_alpha
            slope = p_alpha.sub(q_alpha).div_(alpha).mul_(p_beta)
            of_both = _difference(p, q, alpha + beta)
            value = of_both.sub_(of_beta.mul_(q_alpha)).sum(-1).div_(alpha)
        else:
            slope = (p.lprobs - q.lprobs).mul_(p_beta)
            value = (slope - of_beta).sum(-1).div_(beta)
        yield 1.0, Term(not_negative(value), slope, slope.sum(-1))


def _power(p: Distribution, exponent: float) -> Tensor:
    """p^e, shape (n, V); not the caller's to write over."""
    return p.probs if exponent == 1 else (p.lprobs * exponent).exp_()


def _difference(
    p: Distribution,
    q: Distribution,
    exponent: float,
    of_p: Tensor | None = None,
    of_q: Tensor | None = None,
) -> Tensor:
    """(p^e − q^e)/e and its limit for e = 0, shape (n, V); the caller's to write over."""
    if not exponent:
        return p.lprobs - q.lprobs
    of_p = _power(p, exponent) if of_p is None else of_p
    of_q = _power(q, exponent) if of_q is None else of_q
    return (of_p - of_q).div_(exponent)
