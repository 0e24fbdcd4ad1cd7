"""What numpy 2 took away or counts otherwise, for those modules of fairseq that lean on it."""

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
    """numpy as one module sees it: with what is not there any more. Others see numpy's own."""

    def __init__(self, **given_back: Any) -> None:
        super().__init__(np.__name__, np.__doc__)
        vars(self).update(given_back)

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def give_back_long_integers() -> None:
    """Let translations be bucketed and sentences be read one by one, by a language model too.

    ``np.compat.long``, which is Python's int, went with numpy 2; ``--num-batch-buckets`` and a
    TokenBlockDataset of sentences (``--sample-break-mode eos``, ``fairseq-interactive`` with a
    language model, …) ask for it.
    """
    if not hasattr(np, "compat"):
        for module in (language_pair_dataset, token_block_dataset):
            module.np = _NumpyWith(compat=SimpleNamespace(long=int))


def _percentile(*args: Any, interpolation: str = "linear", **options: Any) -> Any:
    return np.percentile(*args, **{"method": interpolation, **options})


def give_back_interpolation() -> None:
    """Let bucket sizes be found: numpy 2.4 knows percentile's `interpolation` only as `method`."""
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

    It adds up where each sentence starts from lengths that are numpy's int32; what numpy 1 made
    int64 of by itself overflows under numpy 2, and the index points to nowhere.
    """
    builder = MMapIndexedDatasetBuilder
    if NUMPY_2 and not hasattr(builder.finalize, "counts_in_whole_numbers"):
        builder.finalize = _counting_in_whole_numbers(builder.finalize)
