"""Divergences between a learner's and a teacher's next-token distributions.

Functions of log-probabilities: p is the learner's distribution, q the teacher's, both of shape
(n, V); a value for each row, in nats, nothing averaged. To add one: a function and
:func:`register_divergence`.
"""

from ka_fairseq.loss.divergences.adaptive_kl import AdaptiveKL
from ka_fairseq.loss.divergences.alpha_beta import AlphaBeta
from ka_fairseq.loss.divergences.base import Divergence, Term
from ka_fairseq.loss.divergences.by_autograd import ByAutograd
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.divergences.kl import (
    BACKWARD_KL,
    FORWARD_KL,
    JSD_MIXTURE,
    TOP_K_FORMS,
    KLMixture,
    backward_kl,
    check_top_k,
    forward_kl,
    jsd_mixture,
)
from ka_fairseq.loss.divergences.registry import (
    divergence_named,
    divergence_names,
    register_divergence,
)
from ka_fairseq.loss.divergences.skew_kl import SkewBackwardKL, SkewForwardKL
from ka_fairseq.loss.divergences.total_variation import TotalVariation
from ka_fairseq.loss.divergences.values import values

__all__ = [
    "BACKWARD_KL",
    "FORWARD_KL",
    "JSD_MIXTURE",
    "TOP_K_FORMS",
    "AdaptiveKL",
    "AlphaBeta",
    "ByAutograd",
    "Divergence",
    "JensenShannon",
    "KLMixture",
    "SkewBackwardKL",
    "SkewForwardKL",
    "Term",
    "TotalVariation",
    "backward_kl",
    "check_top_k",
    "divergence_named",
    "divergence_names",
    "forward_kl",
    "jsd_mixture",
    "register_divergence",
    "values",
]
