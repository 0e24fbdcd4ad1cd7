"""The criterions; fairseq does not import this folder of a --user-dir by itself."""

from ka_fairseq.criterions import presets, transfer

__all__ = ["presets", "transfer"]
