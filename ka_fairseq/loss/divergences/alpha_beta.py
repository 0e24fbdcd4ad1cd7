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

# Exponents between 0 and 0.01 leave too few digits in float32's differences of powers.
EXPONENTS = Range(0.01, 10, or_zero=True)


@register_divergence("alpha_beta")
@dataclass(frozen=True)
class AlphaBeta(Divergence):
    """A family with two exponents (α, β): forward KL is (1, 0), backward KL is (0, 1).

    A smaller α gives more weight to types where p and q are far apart. A larger β gives more weight
    to types that the student finds probable. α = β = ½ is four times Hellinger's squared distance.

    Formula: 1/(αβ) Σ_y [α/(α + β)·q^(α + β) + β/(α + β)·p^(α + β) − q^α·p^β]; the limit if α or β
        is 0
    Source: Cichocki et al. 2011; Wang et al. 2025 (ABKD), arXiv 2505.04560
    When: a divergence between the two KLs, or beyond them, is wanted, and there is time to tune two
        numbers on validation

    Attributes:
        alpha: α, the teacher's exponent: 0, or between 0.01 and 10.
        beta: β, the student's exponent: the same range, and not 0 if α is 0.

    Raises:
        ValueError: α or β is out of range, or both are 0.
    """

    alpha: float = option("--ab-alpha", 0.5, "α, the teacher's exponent", EXPONENTS)
    beta: float = option("--ab-beta", 0.5, "β, the student's exponent", EXPONENTS)
    more_tensors = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha == self.beta == 0:
            raise ValueError("--ab-alpha and --ab-beta must not both be 0")

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield value and derivatives; ∂/∂log p = p^β·(p^α − q^α)/α.

        Let δ_e = (p^e − q^e)/e, and δ_0 = log p − log q. The value's terms are
        [δ_(α+β) − q^α·δ_β]/α, or [p^β·δ_0 − δ_β]/β for α = 0.
        """
        alpha, beta = self.alpha, self.beta
        p_beta = _power(p, beta)
        q_alpha = _power(q, alpha) if alpha else None
        # Powers take the time on a CPU. With equal exponents, each power is computed once.
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
    """Return p^e, shape (n, V); the caller must not overwrite the result."""
    return p.probs if exponent == 1 else (p.lprobs * exponent).exp_()


def _difference(
    p: Distribution,
    q: Distribution,
    exponent: float,
    of_p: Tensor | None = None,
    of_q: Tensor | None = None,
) -> Tensor:
    """Return (p^e − q^e)/e or its limit for e = 0, (n, V); the caller may overwrite the result."""
    if not exponent:
        return p.lprobs - q.lprobs
    of_p = _power(p, exponent) if of_p is None else of_p
    of_q = _power(q, exponent) if of_q is None else of_q
    return (of_p - of_q).div_(exponent)
