"""Knowledge transfer for fairseq: importing this package registers its criterions and tasks."""

from ka_fairseq import compat, criterions
from ka_fairseq.tasks import translation_with_teacher

__all__ = ["compat", "criterions", "translation_with_teacher"]
