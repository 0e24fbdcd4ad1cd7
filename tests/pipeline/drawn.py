"""Texts of words that mean nothing, and translations of them that are wrong to a known share."""

from __future__ import annotations

import random

WORDS = [f"w{number}" for number in range(300)]


def references(count):
    """So many sentences, the same ones each time."""
    draw = random.Random(1)
    return [" ".join(draw.choices(WORDS, k=draw.randint(4, 20))) for _ in range(count)]


def corrupted(lines, share, seed):
    """The lines with that share of their words replaced."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(WORDS) if draw.random() < share else word for word in line.split())
        for line in lines
    ]
