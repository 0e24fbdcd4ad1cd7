"""Compute the loss from tensors; no module here depends on fairseq.

Names in code say *learner*, the paper's word for the student.
"""
