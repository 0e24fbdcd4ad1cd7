"""Export checkpoints for use elsewhere: in plain fairseq, or in CTranslate2 without fairseq."""

from ka_fairseq.export.ctranslate2_model import convert
from ka_fairseq.export.folder import export_folder
from ka_fairseq.export.plain import export

__all__ = ["convert", "export", "export_folder"]
