"""Knowledge transfer for fairseq: importing this package registers its criterions and tasks."""

from ka_fairseq import compat, criterions, hardening
from ka_fairseq.loss.divergences import register_divergence
from ka_fairseq.tasks import translation_with_teacher

__all__ = ["compat", "criterions", "hardening", "register_divergence", "translation_with_teacher"]
