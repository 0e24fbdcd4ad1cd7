"""Kullback–Leibler divergences in both orders, mixed and restricted, with closed-form gradients.

All functions are pure functions of log-probabilities. p is the student's distribution and q the
teacher's, both of shape ``(N, V)``. Each result has shape ``(N,)``: one value per row, in nats, not
averaged. Results are float32 or better. They are differentiable in the student's log-probabilities,
with derivatives in closed form. :meth:`Divergence.terms` gives values and derivatives at once; the
training loss uses these.

A divergence can be restricted to a set S of k tokens, in three forms (``top_k_form``). With
d = log p − log q:

=============  ======================================  =====================================
form           forward, S = the teacher's k best       backward, S = the student's k best
=============  ======================================  =====================================
generalized    Σ_S [−q·d + p − q]                      Σ_S [p·d − p + q]
tail           KL of the distributions over S and one more class for all other tokens
partial        Σ_S −q·d                                Σ_S p·d
=============  ======================================  =====================================

On S, ``generalized`` has the derivatives of Eq. 5 and 6 of Sun & Cross (2020), 1 − q/p and
log(p/q). Its derivatives elsewhere are 0. ``generalized`` and ``tail`` are never negative.
``partial`` is the sum as printed in §3.3 of the paper. This sum is not stationary at p = q, and can
be negative. For k = V, all three forms are the divergence itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from torch import Tensor

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term, not_negative
from ka_fairseq.loss.divergences.registry import register_divergence
from ka_fairseq.loss.divergences.values import values
from ka_fairseq.ranges import check

TOP_K_FORMS = ("generalized", "tail", "partial")


def check_top_k(top_k: int, top_k_form: str, vocabulary: int) -> None:
    """Check the options of a top-k restriction.

    Raises:
        ValueError: ``top_k`` is outside [0, vocabulary], or ``top_k_form`` is unknown.
    """
    if not 0 <= top_k <= vocabulary:
        raise ValueError(
            f"top_k must lie between 0 (the whole vocabulary) and {vocabulary} (its size), "
            f"not {top_k}"
        )
    check("top_k_form", top_k_form, TOP_K_FORMS)


@dataclass(frozen=True)
class KLMixture(Divergence):
    """forward·KL(q‖p) + backward·KL(p‖q), each restricted to its own k best tokens.

    Attributes:
        forward: the share of the forward KL.
        backward: the share of the backward KL.
        top_k: number of tokens in the sum; 0 means the whole vocabulary.
        top_k_form: how the other tokens count, see the module's table.
    """

    forward: float
    backward: float
    top_k: int = 0
    top_k_form: str = "generalized"

    def restricted(self, top_k: int, top_k_form: str) -> KLMixture:
        """Return the mixture over the k best tokens."""
        return replace(self, top_k=top_k, top_k_form=top_k_form)

    def with_backward_share(self, share: float) -> KLMixture:
        """Return the mixture with other shares; a KL with share 0 is left out."""
        if not self.forward or not self.backward:
            return super().with_backward_share(share)
        return replace(self, forward=1 - share, backward=share)

    def needs_whole_teacher(self, vocabulary: int) -> bool:
        """Return whether D needs q at more tokens than the student's k best."""
        restricted = 0 < self.top_k < vocabulary and self.top_k_form != "tail"
        return bool(self.forward) or not restricted

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield the share and the term of each KL whose share is not 0."""
        vocabulary = p.lprobs.size(-1)
        check_top_k(self.top_k, self.top_k_form, vocabulary)
        form = "whole" if self.top_k in (0, vocabulary) else self.top_k_form
        for share, order in ((self.forward, _FORWARD), (self.backward, _BACKWARD)):
            if share:
                yield share, order[form](p, q, self.top_k)


FORWARD_KL = register_divergence("forward_kl")(KLMixture(1.0, 0.0))
BACKWARD_KL = register_divergence("backward_kl")(KLMixture(0.0, 1.0))
JSD_MIXTURE = register_divergence("jsd_mixture")(KLMixture(0.5, 0.5))


def forward_kl(
    learner_lprobs: Tensor,
    teacher_lprobs: Tensor,
    *,
    top_k: int = 0,
    top_k_form: str = "generalized",
) -> Tensor:
    """Return the forward KL: knowledge distillation, KD.

    Formula: KL(q‖p) = Σ_y q·(log q − log p)
    Source: Hinton et al. 2015, arXiv 1503.02531; Sun & Cross 2020, Eq. 1
    When: the usual choice; the student learns to cover all of the teacher's distribution, and
        training from scratch works

    Args:
        learner_lprobs: log p, shape (N, V).
        teacher_lprobs: log q, shape (N, V).
        top_k: sum over the teacher's k best tokens only; 0 means the whole vocabulary.
        top_k_form: how the other tokens count, see the module's table.

    Returns:
        Shape (N,), in nats, not averaged.

    Raises:
        ValueError: shapes differ, or ``top_k`` or ``top_k_form`` is not valid.
    """
    return values(FORWARD_KL.restricted(top_k, top_k_form), learner_lprobs, teacher_lprobs)


def backward_kl(
    learner_lprobs: Tensor,
    teacher_lprobs: Tensor,
    *,
    top_k: int = 0,
    top_k_form: str = "generalized",
) -> Tensor:
    """Return the backward (reverse) KL: knowledge acquisition, KA.

    Formula: KL(p‖q) = Σ_y p·(log p − log q)
    Source: Sun & Cross 2020, arXiv 2008.10077, Eq. 3 and 11
    When: a student that is already trained should give up tokens that the teacher rules out;
        training from scratch works badly

    The arguments, result and errors are those of :func:`forward_kl`, but the top-k set is the
    student's own (§3.3).
    """
    return values(BACKWARD_KL.restricted(top_k, top_k_form), learner_lprobs, teacher_lprobs)


def jsd_mixture(
    learner_lprobs: Tensor,
    teacher_lprobs: Tensor,
    *,
    top_k: int = 0,
    top_k_form: str = "generalized",
) -> Tensor:
    """Return half of Jeffreys' divergence, which the paper calls JSD.

    The Jensen–Shannon divergence is ``js``.

    Formula: ½·KL(q‖p) + ½·KL(p‖q): half of Jeffreys' divergence, not Jensen–Shannon's
    Source: Jeffreys 1946; Sun & Cross 2020, §5.3 and Table 2, "½KA + ½KD"
    When: a compromise between the two KLs is wanted, or a change from one to the other by
        `--mixture-schedule`

    Arguments, result and errors are those of :func:`forward_kl`. Each half takes its own top-k set.
    """
    return values(JSD_MIXTURE.restricted(top_k, top_k_form), learner_lprobs, teacher_lprobs)


# -- values and derivatives of each form -----------------------------------------------------------
#
# p is the student's distribution, q the teacher's; d = log p − log q. Names with `_s` are on the
# support S, shape (n, k).


def _forward_whole(p: Distribution, q: Distribution, _: int) -> Term:
    """Σ q·(log q − log p); ∂/∂log p = −q."""
    value = (q.lprobs - p.lprobs).mul_(q.probs).sum(-1)
    return Term(not_negative(value), q.probs, q.probs.sum(-1), sign=-1)


def _backward_whole(p: Distribution, q: Distribution, _: int) -> Term:
    """Σ p·d; ∂/∂log p = p·d + p."""
    slope = (p.lprobs - q.lprobs).mul_(p.probs)
    value = slope.sum(-1)
    return Term(not_negative(value), slope, value, along=1.0)


def _forward_generalized(p: Distribution, q: Distribution, k: int) -> Term:
    """Σ_S [−q·d + p − q]; ∂/∂log p = p − q on S."""
    support, p_s, q_s, d_s = _on_support(q.best(k), p, q)
    slope = p_s - q_s
    return _on(support, not_negative((slope - q_s * d_s).sum(-1)), slope)


def _backward_generalized(p: Distribution, q: Distribution, k: int) -> Term:
    """Σ_S [p·d − p + q]; ∂/∂log p = p·d on S."""
    support, p_s, q_s, d_s = _on_support(p.best(k), p, q)
    slope = p_s * d_s
    return _on(support, not_negative((slope + (q_s - p_s)).sum(-1)), slope)


def _forward_partial(p: Distribution, q: Distribution, k: int) -> Term:
    """Σ_S −q·d; ∂/∂log p = −q on S."""
    support, _, q_s, d_s = _on_support(q.best(k), p, q)
    return _on(support, -(q_s * d_s).sum(-1), -q_s)


def _backward_partial(p: Distribution, q: Distribution, k: int) -> Term:
    """Σ_S p·d; ∂/∂log p = p·d + p on S."""
    support, p_s, _, d_s = _on_support(p.best(k), p, q)
    return _on(support, (p_s * d_s).sum(-1), p_s * d_s + p_s)


def _forward_tail(p: Distribution, q: Distribution, k: int) -> Term:
    """Σ_S −q·d + Q·(log Q − log P), with P, Q the mass of the rest.

    ∂/∂log p = −q on S and −Q·p/P on the rest. p/P is computed by its logarithm, because P may
    underflow.
    """
    support, _, q_s, d_s = _on_support(q.best(k), p, q)
    log_p_rest, log_q_rest = p.log_rest(support), q.log_rest(support)
    q_rest = log_q_rest.exp()
    value = (q_rest * (log_q_rest - log_p_rest)).squeeze(-1) - (q_s * d_s).sum(-1)
    slope = (p.lprobs - log_p_rest).clamp_(max=0).exp_().mul_(q_rest).scatter_(-1, support, q_s)
    return Term(not_negative(value), slope, slope.sum(-1), sign=-1)


def _backward_tail(p: Distribution, q: Distribution, k: int) -> Term:
    """Σ_S p·d + P·ρ, with P, Q the mass of the rest and ρ = log P − log Q.

    ∂/∂log p = p·(d + 1) on S and p·(ρ + 1) on the rest.
    """
    support, p_s, _, d_s = _on_support(p.best(k), p, q)
    log_p_rest = p.log_rest(support)
    ratio = log_p_rest - q.log_rest(support)
    value = (log_p_rest.exp() * ratio).squeeze(-1) + (p_s * d_s).sum(-1)
    return _on(support, not_negative(value), p_s * (d_s - ratio), ratio + 1)


_FORWARD = {
    "whole": _forward_whole,
    "generalized": _forward_generalized,
    "partial": _forward_partial,
    "tail": _forward_tail,
}
_BACKWARD = {
    "whole": _backward_whole,
    "generalized": _backward_generalized,
    "partial": _backward_partial,
    "tail": _backward_tail,
}


def _on_support(
    support: Tensor, p: Distribution, q: Distribution
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return S, and p, q and d on S."""
    lp_s, lq_s = p.at(support), q.at(support)
    return support, lp_s.exp(), lq_s.exp(), lp_s - lq_s


def _on(support: Tensor, value: Tensor, slope: Tensor, along: Tensor | float = 0.0) -> Term:
    return Term(value, slope, slope.sum(-1), support, along=along)
