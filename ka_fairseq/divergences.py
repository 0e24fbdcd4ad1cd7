"""Divergences between a learner's and a teacher's next-token distributions.

Pure functions of log-probabilities: p is the learner's distribution, q the teacher's, both of
shape ``(N, V)``; every result has shape ``(N,)``, in nats, one value a row, nothing averaged.
Results are float32 or better and are differentiable in the learner's log-probabilities.

Restricting a divergence to a set S of k tokens can be done in three forms (``top_k_form``).
With d = log p − log q:

=============  ======================================  =====================================
form           forward, S = the teacher's k best       backward, S = the learner's k best
=============  ======================================  =====================================
generalized    Σ_S [−q·d + p − q]                      Σ_S [p·d − p + q]
tail           KL of the distributions over S and one more class that holds all the rest
partial        Σ_S −q·d                                Σ_S p·d
=============  ======================================  =====================================

``generalized`` has the derivatives of Eq. 5 and 6 of Sun & Cross (2020), 1 − q/p and log(p/q), on
S and none elsewhere; ``generalized`` and ``tail`` are never negative. ``partial`` is the sum as
§3.3 of the paper prints it: it is not stationary at p = q and can be negative. For k = V all
three are the divergence itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

TOP_K_FORMS = ("generalized", "tail", "partial")

# A log-probability below this counts as this. It keeps the divergence from a distribution that
# gives probability 0 to a token finite, and 0·log 0 at 0; log-softmax of logits within ±4e4 never
# comes near it.
LOG_ZERO = -1e5

Divergence = Callable[..., Tensor]


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
    if top_k_form not in TOP_K_FORMS:
        raise ValueError(f"unknown top_k_form {top_k_form!r}; choose from {', '.join(TOP_K_FORMS)}")


def forward_kl(
    learner_lprobs: Tensor,
    teacher_lprobs: Tensor,
    *,
    top_k: int = 0,
    top_k_form: str = "generalized",
) -> Tensor:
    """KL(q‖p) = Σ_y q(y)·(log q(y) − log p(y)): knowledge distillation (Sun & Cross, Eq. 1).

    Args:
        learner_lprobs: log p, shape (N, V).
        teacher_lprobs: log q, shape (N, V).
        top_k: sum over the teacher's k best tokens only; 0 means the whole vocabulary.
        top_k_form: what becomes of the rest, see the module's table.

    Returns:
        Shape (N,), in nats, not averaged.

    Raises:
        ValueError: shapes differ, or ``top_k`` or ``top_k_form`` is not valid.
    """
    return _kl(teacher_lprobs, learner_lprobs, top_k, top_k_form)


def backward_kl(
    learner_lprobs: Tensor,
    teacher_lprobs: Tensor,
    *,
    top_k: int = 0,
    top_k_form: str = "generalized",
) -> Tensor:
    """KL(p‖q) = Σ_y p(y)·(log p(y) − log q(y)): knowledge acquisition (Sun & Cross, Eq. 3, 11).

    The arguments, result and errors are those of :func:`forward_kl`, but the top-k set is the
    learner's own (§3.3).
    """
    return _kl(learner_lprobs, teacher_lprobs, top_k, top_k_form)


def jsd_mixture(
    learner_lprobs: Tensor,
    teacher_lprobs: Tensor,
    *,
    top_k: int = 0,
    top_k_form: str = "generalized",
) -> Tensor:
    """½·KL(q‖p) + ½·KL(p‖q) (Sun & Cross, §5.3 and Table 2, "½KA + ½KD").

    The paper calls it JSD. It is half of Jeffreys' symmetric divergence, not the Jensen–Shannon
    divergence. Each half takes its own top-k set. Arguments, result and errors are those of
    :func:`forward_kl`.
    """
    forward = forward_kl(learner_lprobs, teacher_lprobs, top_k=top_k, top_k_form=top_k_form)
    backward = backward_kl(learner_lprobs, teacher_lprobs, top_k=top_k, top_k_form=top_k_form)
    return 0.5 * (forward + backward)


def entropy(lprobs: Tensor) -> Tensor:
    """H = −Σ_y p(y)·log p(y), shape (N, V) → (N,), in nats."""
    lprobs = _prepare(lprobs)
    return -(lprobs.exp() * lprobs).sum(-1)


def _kl(a_lprobs: Tensor, b_lprobs: Tensor, top_k: int, top_k_form: str) -> Tensor:
    """KL(a‖b), restricted to the k best of a: both orders are this, with a and b exchanged."""
    if a_lprobs.shape != b_lprobs.shape or a_lprobs.dim() != 2:
        raise ValueError(
            "learner and teacher log-probabilities must both have the shape (N, V), "
            f"not {tuple(a_lprobs.shape)} and {tuple(b_lprobs.shape)}"
        )
    vocabulary = a_lprobs.size(-1)
    check_top_k(top_k, top_k_form, vocabulary)
    la, lb = _prepare(a_lprobs), _prepare(b_lprobs)
    if top_k in (0, vocabulary):
        return _not_negative(_kl_terms(la, lb).sum(-1))

    best = la.detach().topk(top_k, dim=-1).indices
    la_best, lb_best = la.gather(-1, best), lb.gather(-1, best)
    if top_k_form == "partial":
        return _kl_terms(la_best, lb_best).sum(-1)
    if top_k_form == "tail":
        la_best = torch.cat([la_best, _log_rest(la, best)], dim=-1)
        lb_best = torch.cat([lb_best, _log_rest(lb, best)], dim=-1)
        return _not_negative(_kl_terms(la_best, lb_best).sum(-1))
    deficit = lb_best.exp() - la_best.exp()
    return _not_negative((_kl_terms(la_best, lb_best) + deficit).sum(-1))


def _kl_terms(la: Tensor, lb: Tensor) -> Tensor:
    """a·(log a − log b), elementwise."""
    return la.exp() * (la - lb)


def _log_rest(lprobs: Tensor, best: Tensor) -> Tensor:
    """The log of the probability outside ``best``, shape (N, 1).

    A logsumexp over the rest, not log(1 − Σ): that difference has no correct digit once the k
    best hold nearly all of the mass, which is the usual case.
    """
    rest = lprobs.scatter(-1, best, -torch.inf)
    return rest.logsumexp(-1, keepdim=True)


def _prepare(lprobs: Tensor) -> Tensor:
    return lprobs.to(torch.promote_types(lprobs.dtype, torch.float32)).clamp(min=LOG_ZERO)


def _not_negative(values: Tensor) -> Tensor:
    """Lift values that rounding took below zero, with the gradient left as it is."""
    return values + (values.detach().clamp(min=0) - values.detach())
