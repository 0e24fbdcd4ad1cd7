"""A share of the work, such as 1/4, for one of several processes that build a cache together."""

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
        number: the number of this share, from 1.
        of: the number of all shares.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Share:
        """Parse a share: ``2/4`` is the second of four.

        Raises:
            argparse.ArgumentTypeError: the text is not a share.
        """
        number, _, of = text.partition("/")
        if not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise argparse.ArgumentTypeError(f"{text} is no share: write 1/4 for the first of four")
        return cls(int(number), int(of))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, pairs: np.ndarray) -> np.ndarray:
        """Return whether each pair, given by its index, belongs to the share.

        A share consists of whole files of the store. If two machines mapped the same file on a
        network disk, each would write back pages that lack the other's data.
        """
        return pairs // store.PAIRS_PER_SHARD % self.of == self.number - 1


ALL = Share(1, 1)


class SharedDataset(BaseWrapperDataset):
    """The sentence pairs of one share."""

    def __init__(self, dataset: CachedTeacherDataset, share: Share) -> None:
        """Take a share of a dataset."""
        super().__init__(dataset)
        self._share = share

    def ordered_indices(self) -> np.ndarray:
        """Return the share's indices, in the order of the dataset."""
        indices = self.dataset.ordered_indices()
        return indices[self._share.has(indices)]

    def __len__(self) -> int:
        return int(self._share.has(np.arange(len(self.dataset))).sum())

    def num_tokens_vec(self, indices: np.ndarray) -> np.ndarray:
        """Return the dataset's own numbers of tokens; fairseq's wrapper lacks this method."""
        return self.dataset.num_tokens_vec(indices)
