"""A dataset whose batches bring the teacher's stored answers along, where there are any."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, FairseqDataset
from torch import Tensor
from torch.utils.data import get_worker_info

from ka_fairseq.teacher.cache.store import Record, Store, checksum

# What a batch's entry for the cache is called.
KEY = "teacher_cache"


class CachedTeacherDataset(BaseWrapperDataset):
    """Sentence pairs, or a language model's blocks, with ``batch["teacher_cache"]``.

    That is ``{"split": name}`` and, where every sample of the batch is in the cache, ``"hidden"``,
    int16 or int8 of shape (N, width), and ``"normalizers"``, float64 of shape (N, numbers), for the
    N target positions without padding in the order of ``batch["target"]``. Reading here means that
    fairseq's data workers do it ahead of time. The numbers are float64 because fairseq rounds all
    float32 tensors of a batch to the model's precision.
    """

    def __init__(self, dataset: FairseqDataset, pad: int, name: str, store: Store) -> None:
        """Wrap a dataset.

        Args:
            dataset: what fairseq's task loaded.
            pad: what fills up its samples.
            name: of the split, as the cache calls it.
            store: the cache's records of this dataset.
        """
        super().__init__(dataset)
        self.pad = pad
        self.name = name
        self.store = store

    def collater(self, samples: list[dict[str, Any]], **options: Any) -> dict[str, Any]:
        """fairseq's batch, and the stored answers for it."""
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
        """The checksum of a sample's tokens and the number of its target positions."""
        source, target = (_unpadded(sample[side], self.pad) for side in SIDES)
        return checksum(source, target), len(target)

    def write(self, index: int, record: Record) -> None:
        """Store the teacher's answer for a sample."""
        tokens, _ = self.describe(self.dataset[index])
        self.store.write(index, tokens, record)

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """As the dataset has it; fairseq's wrapper leaves it out."""
        return self.dataset.num_tokens_vec(indices)


def joined(parts: Sequence[np.ndarray], dtype: np.dtype | type) -> Tensor:
    """Arrays of shapes (n, m) one below the other, as one tensor.

    A data worker writes them where the training will read them, in memory that both share: what it
    wrote elsewhere torch would copy there.
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
    """Bucketed datasets pad single sentences."""
    return tokens[tokens.ne(pad)].numpy()
