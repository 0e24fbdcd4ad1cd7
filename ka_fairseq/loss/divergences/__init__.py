"""Divergences between a learner's and a teacher's next-token distributions.

Functions of log-probabilities: p is the learner's distribution, q the teacher's, both of shape
(n, V); a value for each row, in nats, nothing averaged. To add one: a file here, with a function or
a class and :func:`register_divergence`; every module of this folder is imported.
"""

import importlib
import pkgutil

from ka_fairseq.loss.divergences.base import Divergence, Term
from ka_fairseq.loss.divergences.by_autograd import ByAutograd

# The paper's own come first wherever divergences are listed.
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
from ka_fairseq.loss.divergences.options import option
from ka_fairseq.loss.divergences.registry import (
    divergence_named,
    divergence_names,
    divergence_options,
    register_divergence,
)
from ka_fairseq.loss.divergences.values import values

for _module in pkgutil.iter_modules(__path__):
    if _module.name != "__main__":
        importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "BACKWARD_KL",
    "FORWARD_KL",
    "JSD_MIXTURE",
    "TOP_K_FORMS",
    "ByAutograd",
    "Divergence",
    "KLMixture",
    "Term",
    "backward_kl",
    "check_top_k",
    "divergence_named",
    "divergence_names",
    "divergence_options",
    "forward_kl",
    "jsd_mixture",
    "option",
    "register_divergence",
    "values",
]
