"""Print messages and progress bars of the command."""

from __future__ import annotations

import sys

from tqdm import tqdm

PREFIX = "distill: "
"""The start of each message. Lines of fairseq and of progress bars start differently."""


def tell(line: str) -> None:
    """Print a message."""
    print(f"{PREFIX}{line}", flush=True)


def bar(title: str, total: int, done: int = 0) -> tqdm:
    """Return a progress bar over sentences; if the output is a file, one line per second."""
    interval = 0.1 if sys.stderr.isatty() else 1.0
    return tqdm(
        desc=title, total=total, initial=done, unit=" sentences", mininterval=interval, miniters=0
    )
