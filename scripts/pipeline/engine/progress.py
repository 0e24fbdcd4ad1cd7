"""Make progress bars that all look and behave alike."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_COLUMNS = 100  # the width of a line in a file


def bar(
    items: Iterable[Any] | None = None,
    title: str = "",
    *,
    total: float | None = None,
    **kwargs: Any,
) -> tqdm:
    """Return a tqdm bar on stderr: below the other bars on a terminal, as lines in a file.

    Args:
        items: the items to walk over; None: the caller advances the bar.
        title: the text before the bar.
        total: the number of items, if `items` has no length.
        kwargs: further arguments of tqdm.
    """
    if sys.stderr.isatty():
        place: dict[str, Any] = {"mininterval": 0.2, "dynamic_ncols": True, "leave": False}
        return _Bar(items, desc=title, total=total, **place, **kwargs)
    place = {"mininterval": 10.0, "position": 0, "ncols": _COLUMNS, "file": _Lines(sys.stderr)}
    return tqdm(items, desc=title, total=total, **place, **kwargs)


def say(text: str, *, error: bool = False) -> None:
    """Print a line above the bars, on stdout or on stderr."""
    tqdm.write(text, file=sys.stderr if error else sys.stdout)


class _Bar(tqdm):
    """A bar for a terminal. When it ends, its last state moves above the bars that still run."""

    def close(self) -> None:
        at_work = not self.disable
        last = str(self)
        super().close()
        if at_work:
            self.fp.write("\r")  # tqdm leaves the cursor at the end of a cleared lower bar
            say(last, error=True)


class _Lines(io.TextIOBase):
    """A file to which each state of a bar is written as a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        if line := text.strip():
            self._file.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self._file.flush()
