"""Progress bars, all made here so that they look and behave alike."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def bar(
    items: Iterable[Any] | None = None,
    title: str = "",
    *,
    total: float | None = None,
    **kwargs: Any,
) -> tqdm:
    """Return tqdm's bar on stderr, drawn once in ten seconds where stderr is a file.

    Args:
        items: what to walk over, or None to advance by hand.
        title: what stands before the bar.
        total: how much there is to do, where `items` cannot tell.
        kwargs: anything else of tqdm's.
    """
    interval = 0.2 if sys.stderr.isatty() else 10.0
    return tqdm(items, desc=title, total=total, mininterval=interval, dynamic_ncols=True, **kwargs)
