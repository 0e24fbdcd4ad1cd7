"""How many rows of a (tokens × types) matrix are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Bytes that a chunk's (rows × types) tensors may take. Constants, not a share of what is free: the
# last digits depend on the size of chunks, and a run must repeat on a machine with less memory to
# spare. The product for the projection's gradient reads and writes that gradient, V × d, once a
# chunk, so few large chunks are faster than many small ones.
CPU_BUDGET = 2**28
GPU_BUDGET = 2**30

# How many of them are alive at a time for each distribution. On a CPU the logits alone: the others
# go by blocks. On a GPU the logits, the logarithms, the probabilities and what becomes a term.
CPU_TENSORS = 1
GPU_TENSORS = 4

# How many more there are at a temperature: the logarithms and probabilities of D beside those of
# the NLL and the entropies. For two models, as some are gone before others are made.
SOFTENED = 3

# Elements of a block on a CPU: 1 MB in float32 for a thread, so that a handful of them stay in its
# cache. No more than for two: glibc hands larger tensors back to the system when they are freed,
# and fetching their pages anew takes longer than the work.
BLOCK_ELEMENTS = 2**18
LARGEST_BLOCK = 2**19


def chunk_rows(
    vocabulary: int, distributions: int, device: torch.device, more_tensors: int = 0
) -> int:
    """Rows of a chunk: as many as fit into the device's budget, in float32.

    Args:
        vocabulary: V.
        distributions: how many models' distributions are worked on at a time.
        device: where they are.
        more_tensors: how many more are alive at a time on a GPU.
    """
    if device.type == "cpu":
        budget, tensors = CPU_BUDGET, CPU_TENSORS * distributions
    else:
        budget, tensors = GPU_BUDGET, GPU_TENSORS * distributions + more_tensors
    return max(1, budget // (4 * vocabulary * tensors))


def block_rows(chunk: Tensor) -> int:
    """Rows of a block of a chunk: what a CPU's cache holds; the whole chunk elsewhere."""
    if chunk.device.type != "cpu":
        return max(1, len(chunk))
    elements = min(BLOCK_ELEMENTS * torch.get_num_threads(), LARGEST_BLOCK)
    return max(1, elements // chunk.size(-1))


def slices(length: int, step: int) -> Iterator[slice]:
    """Consecutive slices of at most ``step``, up to ``length``."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
