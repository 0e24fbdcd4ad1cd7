"""Knowledge transfer for fairseq: importing this package registers its criterions and tasks."""

from ka_fairseq import compat, criterions, hardening
from ka_fairseq.loss.divergences import register_divergence
from ka_fairseq.tasks import language_modeling_with_teacher, translation_with_teacher

__all__ = [
    "compat",
    "criterions",
    "hardening",
    "language_modeling_with_teacher",
    "register_divergence",
    "translation_with_teacher",
]
