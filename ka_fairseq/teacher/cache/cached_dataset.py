"""A dataset whose batches bring the teacher's stored answers along, where there are any."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from fairseq.data import BaseWrapperDataset, FairseqDataset
from torch import Tensor

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
        hidden, normalizers = (np.concatenate(arrays) for arrays in zip(*records, strict=True))
        batch[KEY]["hidden"] = torch.from_numpy(hidden)
        batch[KEY]["normalizers"] = torch.from_numpy(normalizers).double()
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


SIDES = ("source", "target")


def _unpadded(tokens: Tensor, pad: int) -> np.ndarray:
    """Bucketed datasets pad single sentences."""
    return tokens[tokens.ne(pad)].numpy()
