"""Progress bars, all made here so that they look and behave alike."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from typing import Any, TextIO

from tqdm import tqdm

_COLUMNS = 100  # of a line in a file


def bar(
    items: Iterable[Any] | None = None,
    title: str = "",
    *,
    total: float | None = None,
    **kwargs: Any,
) -> tqdm:
    """Return tqdm's bar on stderr: below those that are there, or, in a file, as lines.

    Args:
        items: what to walk over, or None to advance by hand.
        title: what stands before the bar.
        total: how much there is to do, where `items` cannot tell.
        kwargs: anything else of tqdm's.
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
    """A bar that, at its end, becomes a line above the bars that go on."""

    def close(self) -> None:
        at_work = not self.disable
        last = str(self)
        super().close()
        if at_work:
            self.fp.write("\r")  # tqdm leaves the cursor behind a lower bar that it has cleared
            say(last, error=True)


class _Lines(io.TextIOBase):
    """A file in which each state of a bar is a line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> int:
        if line := text.strip():
            self._file.write(f"{line}\n")
        return len(text)

    def flush(self) -> None:
        self._file.flush()
