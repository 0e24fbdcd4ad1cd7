"""Sequence-level knowledge distillation (Kim & Rush 2016): a data-bin in, a distilled one out."""

from ka_fairseq.distill.choosers import Sentence, register_chooser

__all__ = ["Sentence", "register_chooser"]
