"""Batches with stored answers are put together where the training reads them."""

import numpy as np
import torch
from fairseq.data import FairseqDataset
from torch.utils.data import DataLoader

from ka_fairseq.teacher.cache.cached_dataset import KEY, CachedTeacherDataset, joined
from ka_fairseq.teacher.cache.store import Layout, Record, Store

LENGTHS, WIDTH = np.array([3, 1, 2]), 4


class Pairs(FairseqDataset):
    def __len__(self):
        return len(LENGTHS)

    def __getitem__(self, index):
        tokens = torch.arange(4, 4 + LENGTHS[index])
        return {"id": index, "source": tokens, "target": tokens}

    def collater(self, samples):
        return {"id": torch.tensor([sample["id"] for sample in samples])}


class NotesWhatIsShared(CachedTeacherDataset):
    """Says in the batch whether its tensors are in shared memory, before torch puts them there."""

    def collater(self, samples):
        batch = super().collater(samples)
        stored = (batch[KEY][name] for name in ("hidden", "normalizers"))
        return {**batch, "shared": [tensor.is_shared() for tensor in stored]}


def records():
    generator = np.random.default_rng(1)
    for length in LENGTHS:
        yield Record(
            generator.integers(-99, 99, (length, WIDTH)).astype(np.int16),
            generator.standard_normal((length, 2)).astype(np.float32),
        )


def test_a_worker_writes_into_memory_that_the_training_reads(tmp_path):
    store = Store(tmp_path, LENGTHS, Layout(WIDTH, np.int16, 2))
    dataset = NotesWhatIsShared(Pairs(), 1, "train", store)
    for pair, record in enumerate(records()):
        dataset.write(pair, record)
    batches = {
        workers: next(
            iter(DataLoader(dataset, 3, collate_fn=dataset.collater, num_workers=workers))
        )
        for workers in (0, 1)
    }
    assert batches[0]["shared"] == [False, False]
    assert batches[1]["shared"] == [True, True]
    expected = [torch.from_numpy(np.concatenate(part)) for part in zip(*records(), strict=True)]
    for batch in batches.values():
        assert torch.equal(batch[KEY]["hidden"], expected[0])
        assert batch[KEY]["normalizers"].dtype == torch.float64
        assert torch.equal(batch[KEY]["normalizers"], expected[1].double())


def test_no_position_is_no_row():
    assert joined([np.empty((0, WIDTH), np.int8)], np.int8).shape == (0, WIDTH)
