"""Measure time and memory of a training step: plain, chunked and with a teacher cache.

Synthetic sentences of realistic lengths go through the real task, models and criterions, at the
sizes of the paper's Table 1. Each measurement runs in its own process. Repeats are interleaved, so
a machine that slows down slows down all cases alike.
"""
