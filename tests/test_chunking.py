"""Chunk sizes: bounded by the memory at hand, never zero, and covering every row once."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq import chunking

CPU = torch.device("cpu")


def test_a_chunk_takes_its_share_of_what_is_free(monkeypatch):
    monkeypatch.setattr(chunking, "free_memory", lambda device: 80 * 2**20)
    rows = chunking.chunk_rows(1000, 2, CPU)
    assert rows * 1000 * 2 * 4 <= 10 * 2**20 < (rows + 1) * 1000 * 2 * 4


def test_much_memory_gives_no_larger_chunk_than_useful(monkeypatch):
    monkeypatch.setattr(chunking, "free_memory", lambda device: 2**50)
    assert chunking.chunk_rows(2**20, 1, CPU) * 4 * 2**20 == chunking.LARGEST_CHUNK


def test_no_memory_still_gives_a_row(monkeypatch):
    monkeypatch.setattr(chunking, "free_memory", lambda device: 0)
    assert chunking.chunk_rows(40_000, 2, CPU) == 1


def test_the_free_memory_is_looked_at():
    assert chunking.free_memory(CPU) > 2**20


@pytest.mark.parametrize("vocabulary", [10, 2**18, 2**20])
def test_blocks_fit_the_cache_or_are_a_row(vocabulary):
    rows = chunking.block_rows(torch.empty(3, vocabulary))
    assert rows >= 1
    assert rows == 1 or rows * vocabulary <= chunking.LARGEST_BLOCK


@given(st.integers(0, 50), st.integers(1, 60))
def test_slices_cover_every_row_once(length, step):
    rows = [row for part in chunking.slices(length, step) for row in range(length)[part]]
    assert rows == list(range(length))
