"""Patches for modules of fairseq that need names or integer rules of numpy 1."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from fairseq.data import data_utils, language_pair_dataset, token_block_dataset
from fairseq.data.indexed_dataset import MMapIndexedDatasetBuilder

NUMPY_2 = int(np.__version__.split(".")[0]) >= 2


class _NumpyWith(ModuleType):
    """numpy with removed names added. Only the patched module of fairseq sees this numpy."""

    def __init__(self, **given_back: Any) -> None:
        super().__init__(np.__name__, np.__doc__)
        vars(self).update(given_back)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def give_back_long_integers() -> None:
    """Restore ``np.compat.long``, which is Python's int and which numpy 2 removed.

    fairseq uses the name for ``--num-batch-buckets`` and for a TokenBlockDataset of sentences
    (``--sample-break-mode eos``, ``fairseq-interactive`` with a language model, …).
    """
    if not hasattr(np, "compat"):
        for module in (language_pair_dataset, token_block_dataset):
            module.np = _NumpyWith(compat=SimpleNamespace(long=int))


def _percentile(*args: Any, interpolation: str = "linear", **options: Any) -> Any:
    return np.percentile(*args, **{"method": interpolation, **options})


def give_back_interpolation() -> None:
    """Restore `interpolation` of np.percentile for bucket sizes; numpy 2.4 has only `method`."""
    if "interpolation" not in inspect.signature(np.percentile).parameters:
        data_utils.np = _NumpyWith(percentile=_percentile)


def _counting_in_whole_numbers(finalize: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(finalize)
    def finalize_index(self: MMapIndexedDatasetBuilder, index_file: str) -> None:
        self._sizes = [int(size) for size in self._sizes]
        finalize(self, index_file)

    finalize_index.counts_in_whole_numbers = True
    return finalize_index


def count_beyond_two_gigabytes() -> None:
    """Let ``fairseq-preprocess --workers`` write more than 2 GiB.

    fairseq computes the start of each sentence as a sum of lengths, which are numpy's int32.
    numpy 1 widened the sum to int64. Under numpy 2 the sum overflows, and the index is wrong.
    """
    builder = MMapIndexedDatasetBuilder
    if NUMPY_2 and not hasattr(builder.finalize, "counts_in_whole_numbers"):
        builder.finalize = _counting_in_whole_numbers(builder.finalize)
