"""Choose how many rows of a (tokens × types) matrix are computed at a time."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

# Bytes for a chunk's (rows × types) tensors. The budgets are constants, not a share of the free
# memory. The last digits depend on the chunk size, and a run must give the same digits on a machine
# with less free memory. Each chunk reads and writes the projection's gradient (V × d) once. So few
# large chunks are faster than many small chunks.
CPU_BUDGET = 2**28
GPU_BUDGET = 2**30

# Number of (rows × types) tensors that exist at the same time, for each distribution. On a CPU
# these are only the logits, because other tensors are made block by block. On a GPU: logits,
# log-probabilities, probabilities and a term of D.
CPU_TENSORS = 1
GPU_TENSORS = 4

# Number of further tensors if there is a temperature: D then has its own log-probabilities and
# probabilities. The number is for both models together, because some tensors are freed before
# others are made.
SOFTENED = 3

# Elements of a block on a CPU: 1 MB in float32 per thread, so that a few blocks stay in the cache.
# LARGEST_BLOCK is the size for two threads. When a larger tensor is freed, glibc returns its memory
# to the system. Fetching this memory again takes longer than the computation.
BLOCK_ELEMENTS = 2**18
LARGEST_BLOCK = 2**19


def chunk_rows(
    vocabulary: int, distributions: int, device: torch.device, more_tensors: int = 0
) -> int:
    """Return the number of rows of a chunk: as many as fit into the device's budget, in float32.

    Args:
        vocabulary: V.
        distributions: number of models whose distributions are computed at a time.
        device: the device of the distributions.
        more_tensors: number of further (rows × types) tensors that exist at the same time on a GPU.
    """
    if device.type == "cpu":
        budget, tensors = CPU_BUDGET, CPU_TENSORS * distributions
    else:
        budget, tensors = GPU_BUDGET, GPU_TENSORS * distributions + more_tensors
    return max(1, budget // (4 * vocabulary * tensors))


def block_rows(chunk: Tensor) -> int:
    """Return the number of rows of a block: what fits into a CPU's cache; on a GPU all rows."""
    if chunk.device.type != "cpu":
        return max(1, len(chunk))
    elements = min(BLOCK_ELEMENTS * torch.get_num_threads(), LARGEST_BLOCK)
    return max(1, elements // chunk.size(-1))


def slices(length: int, step: int) -> Iterator[slice]:
    """Yield consecutive slices of at most ``step`` elements, up to ``length``."""
    for start in range(0, length, step):
        yield slice(start, min(start + step, length))
