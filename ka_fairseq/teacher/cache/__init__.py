"""Store the teacher's answers on disk.

The teacher is frozen and reads references, so its answers never change. For each target position of
each sentence pair, the cache stores three things: the last hidden state h of the teacher's decoder,
the log-normalizer log Z of its softmax, and its entropy.

All divergences follow from log q(y) = w_y·h + b_y − log Z. They are exact up to the precision of
the stored hidden states.
"""
