"""The criterions. This package imports them, because fairseq does not import this folder itself.

Names in code say *learner*, the paper's word for the student.
"""

from ka_fairseq.criterions import chunked_cross_entropy, presets, tie_kd, transfer

__all__ = ["chunked_cross_entropy", "presets", "tie_kd", "transfer"]
