"""How many rows of a (tokens × types) matrix are worked on at a time."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import torch
from torch import Tensor

# The chunk's logits and their like may take this much of the free memory, and no more than this in
# bytes. The product for the projection's gradient reads and writes that gradient, V × d, once a
# chunk, so few large chunks are faster than many small ones.
SHARE_OF_FREE_MEMORY = 1 / 8
LARGEST_CHUNK = 256 * 2**20

# Elements of a block on a CPU: 1 MB in float32 for a thread, so that a handful of them stay in its
# cache. No more than for two: glibc hands larger tensors back to the system when they are freed,
# and fetching their pages anew takes longer than the work.
BLOCK_ELEMENTS = 2**18
LARGEST_BLOCK = 2**19


def chunk_rows(vocabulary: int, tensors: int, device: torch.device) -> int:
    """Rows of a chunk: as many as fit into the share of the memory that is free now.

    Args:
        vocabulary: V.
        tensors: how many float32 (rows × V) tensors are alive at a time.
        device: where they are.
    """
    room = min(LARGEST_CHUNK, SHARE_OF_FREE_MEMORY * free_memory(device))
    return max(1, int(room) // (4 * vocabulary * tensors))


def free_memory(device: torch.device) -> int:
    """Bytes that could be allocated now, those that torch holds for reuse included."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return psutil.virtual_memory().available


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
