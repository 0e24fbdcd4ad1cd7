"""Checkpoints made ready for use elsewhere: in plain fairseq, or without fairseq in CTranslate2."""

from ka_fairseq.export.ctranslate2_model import convert
from ka_fairseq.export.folder import export_folder
from ka_fairseq.export.plain import export

__all__ = ["convert", "export", "export_folder"]
