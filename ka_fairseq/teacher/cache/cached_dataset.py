"""A dataset whose batches contain the teacher's stored answers, if there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, FairseqDataset
from torch import Tensor
from torch.utils.data import get_worker_info

from ka_fairseq.teacher.cache.store import Record, Store, checksum

# The key of the cache's entry in a batch.
KEY = "teacher_cache"


class CachedTeacherDataset(BaseWrapperDataset):
    """Sentence pairs, or a language model's blocks, with an entry ``batch["teacher_cache"]``.

    The entry always has ``"split"``, the split's name. If every sample of the batch is in the
    cache, the entry also has, for the N target positions without padding:

    - ``"hidden"``: int16 or int8, shape (N, width);
    - ``"normalizers"``: float64, shape (N, numbers).

    Positions have the order of ``batch["target"]``. fairseq's data workers read the cache ahead of
    time. The normalizers are float64 because fairseq rounds all float32 tensors of a batch to the
    model's precision.
    """

    def __init__(self, dataset: FairseqDataset, pad: int, name: str, store: Store) -> None:
        """Wrap a dataset.

        Args:
            dataset: the dataset that fairseq's task loaded.
            pad: padding index of its samples.
            name: the split's name in the cache.
            store: the cache's records of this dataset.
        """
        super().__init__(dataset)
        self.pad = pad
        self.name = name
        self.store = store

    def collater(self, samples: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """Return fairseq's batch with the stored answers for it."""
        batch = self.dataset.collater(samples, **options)
        if not batch:
            return batch
        batch[KEY] = {"split": self.name}
        by_id = {sample["id"]: sample for sample in samples}
        records = []
        for index in batch["id"].tolist():
            record = self.store.read(index, *self.describe(by_id[index]))
            if record is None:
                return batch
            records.append(record)
        hidden, normalizers = zip(*records, strict=True)
        batch[KEY]["hidden"] = joined(hidden, hidden[0].dtype)
        batch[KEY]["normalizers"] = joined(normalizers, np.float64)
        return batch

    def describe(self, sample: dict[str, Any]) -> tuple[int, int]:
        """Return the checksum of a sample's tokens, and the number of its target positions."""
        source, target = (_unpadded(sample[side], self.pad) for side in SIDES)
        return checksum(source, target), len(target)

    def write(self, index: int, record: Record) -> None:
        """Store the teacher's answer for a sample."""
        tokens, _ = self.describe(self.dataset[index])
        self.store.write(index, tokens, record)

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Return the dataset's own numbers of tokens; fairseq's wrapper lacks this method."""
        return self.dataset.num_tokens_vec(indices)


def joined(parts: Sequence[np.ndarray], dtype: np.dtype | type) -> Tensor:
    """Stack arrays of shapes (n, m) along the first axis, and return one tensor.

    A data worker writes the tensor into memory that it shares with the training process. torch
    would copy a tensor from other memory.
    """
    shape = (sum(map(len, parts)), parts[0].shape[1])
    out = torch.from_numpy(np.empty(shape if get_worker_info() is None else 0, dtype))
    if get_worker_info() is not None:
        size = shape[0] * shape[1] * out.element_size()
        out = out.new_empty(0).set_(torch.UntypedStorage._new_shared(size)).view(shape)
    np.concatenate(parts, out=out.numpy(), casting="same_kind")
    return out


SIDES = ("source", "target")


def _unpadded(tokens: Tensor, pad: int) -> np.ndarray:
    """Return tokens without padding; bucketed datasets pad single sentences."""
    return tokens[tokens.ne(pad)].numpy()
