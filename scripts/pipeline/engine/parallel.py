"""Apply a function to a stream on all cores, with ordered results and bounded memory."""

from __future__ import annotations

import collections
import concurrent.futures
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from pipeline.engine.errors import PipelineError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items in memory for each process: one that it works on, one that waits, one that is finished.
_IN_FLIGHT = 3


def cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def ordered_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    initializer: Callable[..., None] | None = None,
    initargs: tuple[Any, ...] = (),
    processes: int | None = None,
    fresh: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` for each item, in the order of the items.

    ``multiprocessing.Pool.imap`` reads all items at once, even if the caller takes the results
    slowly. Here reading waits for the caller, so memory does not grow with the stream.

    Args:
        function: a function of a module; items and results are pickled.
        items: the stream, read in this process.
        initializer: called once in each process.
        initargs: the arguments of `initializer`.
        processes: the number of processes; by default the number of cores.
        fresh: start processes that import all modules again, instead of forks of this process. A
            fork cannot use torch's threads or a GPU if this process has used them.

    Raises:
        PipelineError: a process was killed.
    """
    processes = processes or cores()
    items = iter(items)
    with concurrent.futures.ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn" if fresh else None),
        initializer=_start,
        initargs=(os.getpid(), initializer, initargs),
    ) as pool:
        waiting: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
        try:
            for item in itertools.islice(items, _IN_FLIGHT * processes):
                waiting.append(pool.submit(function, item))
            while waiting:
                yield waiting.popleft().result()
                for item in itertools.islice(items, 1):
                    waiting.append(pool.submit(function, item))
        except BrokenProcessPool:
            raise PipelineError("a process was killed (too little memory?)") from None
        finally:
            for future in waiting:
                future.cancel()


def chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last list may be shorter."""
    items = iter(items)
    while chunk := list(itertools.islice(items, size)):
        yield chunk


def _start(parent: int, initializer: Callable[..., None] | None, initargs: tuple[Any, ...]) -> None:
    # A process of a pool waits for work even after its parent was killed. So it watches its parent.
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    if initializer:
        initializer(*initargs)


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
