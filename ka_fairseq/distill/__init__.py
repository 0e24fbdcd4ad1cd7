"""Sequence-level knowledge distillation (Kim & Rush 2016): train on the teacher's translations."""

from ka_fairseq.distill.choosers import Sentence, register_chooser

__all__ = ["Sentence", "register_chooser"]
