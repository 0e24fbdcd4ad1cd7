"""The divergences by name: what ``--divergence`` chooses from."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ka_fairseq.loss.divergences.adaptive_kl import AdaptiveKL
from ka_fairseq.loss.divergences.alpha_beta import AlphaBeta
from ka_fairseq.loss.divergences.base import Divergence
from ka_fairseq.loss.divergences.by_autograd import ByAutograd, Value
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.divergences.kl import BACKWARD_KL, FORWARD_KL, JSD_MIXTURE
from ka_fairseq.loss.divergences.skew_kl import SkewBackwardKL, SkewForwardKL
from ka_fairseq.loss.divergences.total_variation import TotalVariation

# What register_divergence fills.
DIVERGENCES: dict[str, Divergence] = {}

D = TypeVar("D", Divergence, Value)


def register_divergence(name: str) -> Callable[[D], D]:
    """Register a divergence: a function of its value, or a :class:`Divergence` with closed forms.

    ::

        @register_divergence("hellinger")
        def hellinger(learner_lprobs, teacher_lprobs):  # (n, V), (n, V) -> (n,)
            return 0.5 * ((learner_lprobs / 2).exp() - (teacher_lprobs / 2).exp()).pow(2).sum(-1)

    Args:
        name: what ``--divergence`` calls it.

    Raises:
        ValueError: the name is taken by another one, or the function is no divergence; see
            :meth:`ByAutograd.check`.
    """

    def register(divergence: D) -> D:
        if isinstance(divergence, Divergence):
            registered = divergence
        else:
            registered = ByAutograd(divergence)
            try:
                registered.check()
            except ValueError as error:
                raise ValueError(f"the divergence {name!r}: {error}") from None
        if DIVERGENCES.setdefault(name, registered) != registered:
            raise ValueError(f"there is a divergence {name!r} already: choose another name")
        return divergence

    return register


def divergence_names() -> list[str]:
    """The names that are registered now."""
    return list(DIVERGENCES)


def divergence_named(name: str) -> Divergence:
    """The divergence of a name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    if name not in DIVERGENCES:
        raise ValueError(f"unknown divergence {name!r}; choose from {', '.join(DIVERGENCES)}")
    return DIVERGENCES[name]


register_divergence("forward_kl")(FORWARD_KL)
register_divergence("backward_kl")(BACKWARD_KL)
register_divergence("jsd_mixture")(JSD_MIXTURE)
register_divergence("js")(JensenShannon())
register_divergence("skew_forward_kl")(SkewForwardKL())
register_divergence("skew_backward_kl")(SkewBackwardKL())
register_divergence("tvd")(TotalVariation())
register_divergence("alpha_beta")(AlphaBeta())
register_divergence("adaptive_kl")(AdaptiveKL())
