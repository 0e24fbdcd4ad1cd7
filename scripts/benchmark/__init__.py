"""Time and memory of a training step: plain, chunked and with a teacher cache, at Table 1's sizes.

Synthetic sentences of realistic lengths go through the real task, models and criterions. Each
measurement is a process of its own; repeats are interleaved, so that a machine that slows down
slows down all of them.
"""
