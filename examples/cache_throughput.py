"""Measure how fast a disk writes and reads the files of a teacher cache. No teacher is needed.

python examples/cache_throughput.py FOLDER [width] [pairs]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ka_fairseq.teacher.cache.storage import STORAGES
from ka_fairseq.teacher.cache.store import Layout, Record, Store

LENGTH = 28  # target positions a pair, about as in WMT'17


def timed(folder: Path, pairs: int, layout: Layout, record: Record) -> Iterator[float]:
    """Yield the seconds to write all pairs, then the seconds to read them in random order."""
    store = Store(folder, np.full(pairs, LENGTH), layout)
    store.check_room()
    start = time.perf_counter()
    for pair in range(pairs):
        store.write(pair, pair, record)
    os.sync()
    yield time.perf_counter() - start
    store = Store(folder, np.full(pairs, LENGTH), layout)  # closes the maps of the first store
    for file in folder.iterdir():  # empty the page cache, so that the disk is read
        with file.open("rb") as opened:
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    order = np.random.default_rng(1).permutation(pairs)
    start = time.perf_counter()
    for pair in order:
        store.read(int(pair), int(pair), LENGTH)
    yield time.perf_counter() - start


def main(folder: str, width: str = "1024", pairs: str = "16384") -> None:
    """Print positions and megabytes a second for each storage format."""
    count = int(pairs)
    generator = np.random.default_rng(1)
    for name, storage in STORAGES.items():
        layout = Layout(int(width), storage.numbers, 2 + storage.scales)
        target = Path(folder, f"cache-{name}")
        low, high = np.iinfo(storage.numbers).min, np.iinfo(storage.numbers).max
        record = Record(
            generator.integers(low, high, (LENGTH, layout.width)).astype(storage.numbers),
            generator.standard_normal((LENGTH, layout.normalizers)).astype(np.float32),
        )
        for what, seconds in zip(
            ("written", "read"), timed(target, count, layout, record), strict=True
        ):
            positions = count * LENGTH / seconds
            print(
                f"{name}, {what}: {positions:,.0f} positions/s, "
                f"{positions * layout.size / 1e6:,.0f} MB/s"
            )
        for file in target.iterdir():
            file.unlink()
        target.rmdir()


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        sys.exit("usage: cache_throughput.py FOLDER [WIDTH] [PAIRS]")
    main(*sys.argv[1:])
