"""What of a cache one of several builds writes."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
from fairseq.data import BaseWrapperDataset

from ka_fairseq.teacher.cache import store
from ka_fairseq.teacher.cache.cached_dataset import CachedTeacherDataset


@dataclass(frozen=True)
class Share:
    """One share of several.

    Attributes:
        number: which one, from 1.
        of: how many there are.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Read ``2/4``: the second of four.

        Raises:
            argparse.ArgumentTypeError: it is none.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(f"{text} is no share: 1/4 is the first of four")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, pairs: np.ndarray) -> np.ndarray:
        """Whether pairs belong to it, by their indices.

        Whole files of the store: of a file that two machines map on a network disk, each would
        write back pages with holes where the other has written.
        """
        return pairs // store.PAIRS_PER_SHARD % self.of == self.number - 1


ALL = Share(1, 1)


class SharedDataset(BaseWrapperDataset):
    """The sentence pairs of a share."""

    def __init__(self, dataset: CachedTeacherDataset, share: Share) -> None:
        """Take a share of a dataset."""
        super().__init__(dataset)
        self._share = share

    def ordered_indices(self) -> np.ndarray:
        """Those of the dataset that belong to the share, in its order."""
        indices = self.dataset.ordered_indices()
        return indices[self._share.has(indices)]

    def __len__(self) -> int:
        return int(self._share.has(np.arange(len(self.dataset))).sum())

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """As the dataset has it; fairseq's wrapper leaves it out."""
        return self.dataset.num_tokens_vec(indices)
