"""TIE-KD's hierarchical ranking loss (Zhang et al., ACL 2023), added to any divergence.

Let t_1 … t_k be the teacher's k best tokens in order, and s_1 … s_k the student's. The loss is
A + B:

    A = Σ_i max(0, p(t_i) − p(t_1))
    B = Σ_ij 1[q(t_i) > q(s_j)] · max(0, p(s_j) − p(t_i))

A makes the student put the teacher's best token first. B makes the student put the teacher's best
tokens above each of its own best tokens that the teacher finds less likely.

The loss uses probabilities, not logarithms, at temperature 1. It has no margin and no division by
k. The gradient goes through both p of a difference, in closed form.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term


@dataclass(frozen=True)
class WithRanking(Divergence):
    """A divergence plus the hierarchical ranking loss, with equal weights.

    Attributes:
        divergence: D.
        k: number of each model's best tokens that are compared. A row's k² comparisons are held at
            a time, so k² must not exceed V.
    """

    divergence: Divergence
    k: int

    @property
    def compiles(self) -> bool:
        """Return whether torch.compile can compile D."""
        return self.divergence.compiles

    @property
    def more_tensors(self) -> int:
        """Return D's number of further tensors."""
        return self.divergence.more_tensors

    def restricted(self, top_k: int, top_k_form: str) -> WithRanking:
        """Return the sum with D over the k best tokens; the ranking loss does not change."""
        return replace(self, divergence=self.divergence.restricted(top_k, top_k_form))

    def with_backward_share(self, share: float) -> WithRanking:
        """Return the sum with another share of the backward KL in D, if D is a mixture."""
        return replace(self, divergence=self.divergence.with_backward_share(share))

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield the terms of D, then the terms of the ranking loss."""
        yield from self.divergence.terms(p, q)
        for term in without_repeats(ranking_term(p, q, self.k), self.k):
            yield 1.0, term


def check_ranking_k(k: int, vocabulary: int) -> None:
    """Check the number of best tokens that are compared.

    Raises:
        ValueError: k is below 1, or k² is above the number of types.
    """
    most = math.isqrt(vocabulary)
    if not 1 <= k <= most:
        raise ValueError(
            f"k must lie between 1 and {most} (k² must not exceed {vocabulary}, the number of "
            f"types), not {k}"
        )


def without_repeats(term: Term, k: int) -> Iterator[Term]:
    """Split a term in two: one for the teacher's k best tokens, one for the student's.

    In a single term, a token in both sets would get two additions at once. A GPU makes them in any
    order, so a training run would not repeat to the last bit.
    """
    value = term.value
    for part in (slice(0, k), slice(k, 2 * k)):
        slope = term.slope[:, part]
        yield Term(value, slope, slope.sum(-1), term.support[:, part])
        value = torch.zeros_like(value)


def ranking_term(p: Distribution, q: Distribution, k: int) -> Term:
    """Return A + B of each row, and its derivatives with respect to log p on both k best."""
    of_teacher, of_learner = q.best(k), p.best(k)
    q_t, q_s = q.at(of_teacher), q.at(of_learner)
    p_t, p_s = p.at(of_teacher).exp(), p.at(of_learner).exp()
    first = q_t.argmax(-1, keepdim=True)

    above_first = p_t - p_t.gather(-1, first)
    wrong = above_first > 0
    of_p_t = wrong.to(p_t)
    of_p_t.scatter_add_(-1, first, -of_p_t.sum(-1, keepdim=True))
    value = above_first.clamp(min=0).sum(-1)

    # Rows of (n, k, k) are the teacher's tokens, columns the student's.
    above = p_s.unsqueeze(-2) - p_t.unsqueeze(-1)
    wrong = (q_t.unsqueeze(-1) > q_s.unsqueeze(-2)) & (above > 0)
    value = value + torch.where(wrong, above, 0).sum((-2, -1))
    wrong = wrong.to(p_t)
    of_p_t, of_p_s = of_p_t - wrong.sum(-1), wrong.sum(-2)

    slope = torch.cat([p_t * of_p_t, p_s * of_p_s], dim=-1)
    return Term(value, slope, slope.sum(-1), torch.cat([of_teacher, of_learner], dim=-1))
