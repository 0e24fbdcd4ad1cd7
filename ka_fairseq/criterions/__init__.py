"""The criterions; fairseq does not import this folder of a --user-dir by itself."""

from ka_fairseq.criterions import presets, tie_kd, transfer

__all__ = ["presets", "tie_kd", "transfer"]
