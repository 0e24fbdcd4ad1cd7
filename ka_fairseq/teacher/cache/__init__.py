"""The teacher's answers, kept on disk: it is frozen and reads references, so they never change.

For each target position of each sentence pair: the last hidden state of the teacher's decoder, the
logarithm of its softmax's normalizer and its entropy. All divergences follow exactly, up to the
precision in which hidden states are stored, as log q(y) = w_y·h + b_y − log Z.
"""
