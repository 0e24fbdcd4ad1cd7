"""What the command says while it is at work: lines, and bars over sentences."""

from __future__ import annotations

import sys

from tqdm import tqdm

PREFIX = "distill: "
"""What a line that is told begins with, among those of fairseq and of the bars."""


def tell(line: str) -> None:
    """Print a line."""
    print(f"{PREFIX}{line}", flush=True)


def bar(title: str, total: int, done: int = 0) -> tqdm:
    """Return a bar over sentences; in a file, a line each second."""
    interval = 0.1 if sys.stderr.isatty() else 1.0
    return tqdm(
        desc=title, total=total, initial=done, unit=" sentences", mininterval=interval, miniters=0
    )
