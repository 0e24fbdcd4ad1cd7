"""Knowledge transfer for fairseq: importing this package registers its criterions and tasks."""

from ka_fairseq.quick_import import import_fairseq

import_fairseq()  # first: all that follows imports fairseq

from ka_fairseq import compat, criterions, hardening  # noqa: E402
from ka_fairseq.loss.divergences import register_divergence  # noqa: E402
from ka_fairseq.tasks import (  # noqa: E402
    language_modeling_with_teacher,
    translation_with_teacher,
)

__all__ = [
    "compat",
    "criterions",
    "hardening",
    "language_modeling_with_teacher",
    "register_divergence",
    "translation_with_teacher",
]
