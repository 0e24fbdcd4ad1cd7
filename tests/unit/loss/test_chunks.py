"""Chunk sizes: bounded by a constant budget, never zero, and covering every row once."""

from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss import chunks

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@given(st.integers(1, 2**20), st.integers(1, 5))
def test_a_chunk_is_as_large_as_the_budget_allows(vocabulary, distributions):
    for device, budget, tensors in (
        (CPU, chunks.CPU_BUDGET, chunks.CPU_TENSORS),
        (GPU, chunks.GPU_BUDGET, chunks.GPU_TENSORS),
    ):
        rows = chunks.chunk_rows(vocabulary, distributions, device)
        a_row = 4 * vocabulary * distributions * tensors
        assert rows * a_row <= max(budget, a_row) and (rows + 1) * a_row > budget


def test_a_huge_vocabulary_still_gives_a_row():
    assert chunks.chunk_rows(2**40, 2, CPU) == 1


def test_the_last_digits_do_not_depend_on_the_memory_that_is_free():
    """Nobody is asked how much there is: a run repeats on a fuller machine."""
    with (
        mock.patch("torch.cuda.mem_get_info", side_effect=AssertionError),
        mock.patch("torch.cuda.is_available", side_effect=AssertionError),
    ):
        assert chunks.chunk_rows(1000, 2, GPU) > 0
    assert not hasattr(chunks, "psutil")


@pytest.mark.parametrize("vocabulary", [10, 2**18, 2**20])
def test_blocks_fit_the_cache_or_are_a_row(vocabulary):
    rows = chunks.block_rows(torch.empty(3, vocabulary))
    assert rows >= 1
    assert rows == 1 or rows * vocabulary <= chunks.LARGEST_BLOCK


@given(st.integers(0, 50), st.integers(1, 60))
def test_slices_cover_every_row_once(length, step):
    rows = [row for part in chunks.slices(length, step) for row in range(length)[part]]
    assert rows == list(range(length))
