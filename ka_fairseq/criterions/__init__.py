"""The criterions. fairseq does not import this folder of a --user-dir; the package does.

Names in code say *learner*, the paper's word for the student.
"""

from ka_fairseq.criterions import chunked_cross_entropy, presets, tie_kd, transfer

__all__ = ["chunked_cross_entropy", "presets", "tie_kd", "transfer"]
