"""Sequence-level transfer: a teacher's translations of the training text, as text to train on."""
