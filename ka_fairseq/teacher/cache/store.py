"""Memory-mapped shards of a teacher's hidden states for one dataset, keyed by sentence pair.

For a language model, a pair is a block of text and the same block shifted by one token.

A shard holds a fixed number of pairs in three files:

- hidden states: 2 bytes a number, or 1 byte;
- float32 numbers: log-normalizers, entropy, scales;
- for each pair, two checksums and the length, written last.

A pair without checksums is not stored yet. A pair with a wrong checksum is damaged. Workers usually
write different pairs. If two workers write the same pair at once, the checksums show the damage.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import shutil
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ka_fairseq.errors import UserError

logger = logging.getLogger(__name__)

PAIRS_PER_SHARD = 2**14

# Added to each checksum, so that no checksum is 0. The parts of a file that were never written read
# as 0.
PRESENT = 1 << 32


class Record(NamedTuple):
    """A teacher's answer for one sentence pair with L target positions.

    Attributes:
        hidden: shape (L, width), in a format of :mod:`.storage`.
        normalizers: shape (L, numbers), float32: log-normalizers, the entropy, scales.
    """

    hidden: np.ndarray
    normalizers: np.ndarray


class _Shard(NamedTuple):
    hidden: np.ndarray
    normalizers: np.ndarray
    checksums: np.ndarray


class Layout(NamedTuple):
    """What the store keeps for each target position.

    Attributes:
        width: the number of hidden-state values.
        dtype: the type of these values.
        normalizers: number of float32 numbers beside the hidden states.
    """

    width: int
    dtype: type
    normalizers: int

    @property
    def size(self) -> int:
        """Return the bytes of a position."""
        return np.dtype(self.dtype).itemsize * self.width + 4 * self.normalizers


class Store:
    """The records of a dataset's pairs.

    Attributes:
        folder: the folder of the shards.
    """

    def __init__(
        self, folder: Path, lengths: np.ndarray, layout: Layout, name: str = "pair"
    ) -> None:
        """Describe the layout; nothing is read or written yet.

        Args:
            folder: the folder of the shards, which may not exist yet.
            lengths: the largest number of target positions of each pair; shape (pairs,).
            layout: what is kept for each target position.
            name: the word for a pair in messages.
        """
        self.name = name
        self.folder = folder
        self.layout = layout
        self._starts = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self._shards: dict[int, _Shard] = {}
        # Which records were found undamaged in this run, in memory that data workers share. So each
        # record is checked only once: checks take a third of the time of collating a batch.
        self._checked = torch.zeros(len(lengths), dtype=torch.bool).share_memory_()

    def __len__(self) -> int:
        return len(self._starts) - 1

    @property
    def size(self) -> int:
        """Return the bytes of all shards."""
        return int(self._starts[-1]) * self.layout.size + 24 * len(self)

    def check_room(self) -> None:
        """Check that the missing part of the shards fits on the disk.

        Raises:
            UserError: the disk is too small, or the folder cannot be written.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot make the teacher cache {self.folder}: {error.strerror}; "
                f"check --teacher-cache"
            ) from error
        there = sum(file.stat().st_blocks * 512 for file in self.folder.iterdir())
        missing = max(0, self.size - there)
        free = shutil.disk_usage(self.folder).free
        if missing > free:
            raise UserError(
                f"the teacher cache {self.folder} needs {_gigabytes(missing)} more, and the disk "
                f"has {_gigabytes(free)}: give a folder on another disk as --teacher-cache, or "
                f"train without a cache"
            )
        logger.info(
            f"teacher cache {self.folder}: {_gigabytes(self.size)} for {len(self):,} {self.name}s, "
            f"{_gigabytes(missing)} not written yet"
        )

    def read(self, pair: int, tokens: int, length: int) -> Record | None:
        """Return a pair's record; None if the record is missing or damaged.

        Args:
            pair: index in the dataset.
            tokens: checksum of the pair's tokens, see :func:`checksum`.
            length: number of the pair's target positions.

        Raises:
            UserError: the record belongs to other tokens.
        """
        shard, place, first = self._locate(pair)
        of_tokens, of_record, there = (int(number) for number in shard.checksums[place])
        if not of_record:
            return None
        rows = slice(first, first + min(there, len(shard.hidden) - first))
        record = Record(shard.hidden[rows], shard.normalizers[rows])
        if not self._checked[pair] and of_record != PRESENT + checksum(*record):
            logger.warning(
                f"{self.name} {pair} is damaged in the teacher cache {self.folder}: the teacher "
                f"answers it again"
            )
            return None
        if (of_tokens, there) != (PRESENT + tokens, length):
            raise UserError(
                f"{self.name} {pair} of the dataset differs from the one in the teacher cache "
                f"{self.folder}: give another folder as --teacher-cache, or delete this folder"
            )
        self._checked[pair] = True
        return record

    def write(self, pair: int, tokens: int, record: Record) -> None:
        """Write a pair's record; for ``tokens`` see :meth:`read`.

        Raises:
            UserError: the disk is full.
        """
        shard, place, first = self._locate(pair)
        rows = slice(first, first + len(record.hidden))
        self._checked[pair] = False
        shard.checksums[place] = 0
        shard.hidden[rows] = record.hidden
        shard.normalizers[rows] = record.normalizers
        shard.checksums[place] = PRESENT + tokens, PRESENT + checksum(*record), len(record.hidden)

    def _locate(self, pair: int) -> tuple[_Shard, int, int]:
        """Return a pair's shard, its place in the shard, and its first row."""
        number, place = divmod(pair, PAIRS_PER_SHARD)
        if number not in self._shards:
            self._shards[number] = self._open(number)
        return self._shards[number], place, int(self._starts[pair] - self._starts[pair - place])

    def _open(self, number: int) -> _Shard:
        first = number * PAIRS_PER_SHARD
        last = min(first + PAIRS_PER_SHARD, len(self))
        rows = int(self._starts[last] - self._starts[first])
        make = functools.partial(_memory_map, self.folder)
        return _Shard(
            make(f"{number:05}.hidden", self.layout.dtype, (rows, self.layout.width)),
            make(f"{number:05}.normalizers", np.float32, (rows, self.layout.normalizers)),
            make(f"{number:05}.checksums", np.uint64, (last - first, 3)),
        )


def checksum(*arrays: np.ndarray) -> int:
    """Return the CRC-32 of the bytes of arrays, in the given order."""
    crc = 0
    for array in arrays:
        crc = zlib.crc32(np.ascontiguousarray(array), crc)
    return crc


def _memory_map(folder: Path, name: str, dtype: type, shape: tuple[int, int]) -> np.ndarray:
    """Return a file as an array; a new file is filled with zeros.

    The file's disk space is reserved at once. A memory map that finds the disk full later would end
    the process.
    """
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    file = folder / name
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            os.posix_fallocate(descriptor, 0, size)
            found = os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)
    except OSError as error:
        hint = "free some room" if error.errno == errno.ENOSPC else "check its folder"
        raise UserError(f"cannot write {file}: {error.strerror}; {hint}") from error
    if found != size:
        raise UserError(f"{file} has {found} bytes, not {size}: delete the teacher cache {folder}")
    return np.memmap(file, dtype=dtype, mode="r+", shape=shape)


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2f} GB"
