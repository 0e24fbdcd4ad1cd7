"""Run stages in slots: a stage starts when its needs are done and a slot is free.

A stage that must run alone starts when no other stage runs or can start.
"""

from __future__ import annotations

import concurrent.futures
import graphlib
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.engine import commands, state
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError, describe
from pipeline.engine.progress import bar, say
from pipeline.engine.run_folder import RunFolder
from pipeline.engine.stage import Stage


def run(
    folder: RunFolder,
    stages: Sequence[Stage],
    slots: Sequence[Slot],
    *,
    force: Collection[str] = (),
    title: str | None = None,
    on_done: Callable[[], None] = lambda: None,
) -> None:
    """Run stages. If a stage fails, the stages that need it do not start; the others run.

    Args:
        folder: the folder of the run.
        stages: the stages to run. If several can start, the first in this order starts.
        slots: each running stage has one slot.
        force: names of stages to run again, if they are done or begun.
        title: the title of a progress bar that counts the unfinished stages; None: no bar.
        on_done: called after each finished stage.

    Raises:
        PipelineError: a stage failed. The message names all stages that failed, with the reasons.
    """
    new = {stage.name for stage in stages if not state.is_done(folder.run_dir, stage.name)}
    with bar(title=title, total=len(new), disable=title is None, unit=" stages") as progress:

        def done(name: str) -> None:
            on_done()
            progress.update(name in new)

        _Schedule(folder, stages, slots, force, done).run()


class _Schedule:
    """The stages of a run: waiting, running, finished and failed."""

    def __init__(
        self,
        folder: RunFolder,
        stages: Sequence[Stage],
        slots: Sequence[Slot],
        force: Collection[str],
        on_done: Callable[[str], None],
    ) -> None:
        self._folder = folder
        self._stages = {stage.name: stage for stage in stages}
        self._order = list(self._stages)
        self._force = force
        self._on_done = on_done
        self._free = list(slots)
        self._ready: list[str] = []
        self._at_work: dict[Future[None], tuple[str, Slot]] = {}
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        before = {stage.name: {*stage.needs, *stage.after} for stage in stages}
        self._graph = graphlib.TopologicalSorter(
            {name: needed & before.keys() for name, needed in before.items()}
        )
        self._graph.prepare()

    def run(self) -> None:
        with commands.in_threads(ThreadPoolExecutor(len(self._free))) as pool:
            while self._start(pool):
                self._wait()
        if not self._failed:
            return
        left = [name for name in self._order if name not in self._done | self._failed.keys()]
        if left and self._done:
            say(f"not started: {', '.join(left)}", error=True)
        raise PipelineError("; ".join(self._failed.values()))

    def _start(self, pool: ThreadPoolExecutor) -> bool:
        """Start the stages that can start; return whether a stage is running."""
        self._ready = sorted([*self._ready, *self._graph.get_ready()], key=self._order.index)
        # A stage that runs alone runs in this thread, where Ctrl-C reaches it.
        alone = not self._at_work and 1 in (len(self._ready), len(self._free))
        submit = _call if alone else pool.submit
        while self._free and (name := self._next()):
            self._ready.remove(name)
            slot = self._free.pop(0)
            execute = self._stages[name].execute
            future = submit(execute, self._folder, slot, name in self._force)
            self._at_work[future] = name, slot
        return bool(self._at_work)

    def _next(self) -> str | None:
        """Return the first stage that may start beside the running stages, or None."""
        beside = [name for name in self._ready if not self._stages[name].alone]
        return next(iter(beside or ([] if self._at_work else self._ready)), None)

    def _wait(self) -> None:
        """Wait until one or more stages have ended."""
        ended, _ = concurrent.futures.wait(
            self._at_work, return_when=concurrent.futures.FIRST_COMPLETED
        )
        for future in ended:
            name, slot = self._at_work.pop(future)
            self._free.append(slot)
            try:
                future.result()
            except (PipelineError, OSError) as error:
                self._fail(name, describe(error) if isinstance(error, OSError) else str(error))
            else:
                self._done.add(name)
                self._graph.done(name)
                self._on_done(name)

    def _fail(self, name: str, reason: str) -> None:
        self._failed[name] = reason
        if self._at_work or self._ready:
            say(f"{reason}; stages that do not need {name} go on", error=True)


def _call(function: Callable[..., None], *args: object) -> Future[None]:
    """Call a function in this thread, and return a finished future, as a pool would."""
    future: Future[None] = Future()
    try:
        future.set_result(function(*args))
    except (PipelineError, OSError) as error:
        future.set_exception(error)
    return future
