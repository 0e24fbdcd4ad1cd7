"""Divergences between a student's and a teacher's next-token distributions.

A divergence is a function of log-probabilities. p is the student's distribution and q the
teacher's, both of shape (n, V). The result is one value per row, in nats, not averaged.

To add a divergence, write a file in this folder, with a function or a class and
:func:`register_divergence`. Every module of this folder is imported. Names in code say *learner*,
the paper's word for the student.
"""

import importlib
import pkgutil

from ka_fairseq.loss.divergences.base import Divergence, Term
from ka_fairseq.loss.divergences.by_autograd import ByAutograd

# Imported first: lists of divergences begin with the paper's own.
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
