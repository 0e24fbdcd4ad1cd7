"""Define a stage, and the rules for when it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine import state
from pipeline.engine.devices import WHOLE, Slot
from pipeline.engine.errors import PipelineError, describe
from pipeline.engine.progress import say
from pipeline.engine.run_folder import RunFolder


def _nothing() -> None:
    """Delete nothing: the default, for a stage that overwrites its result."""


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline. Its result is kept, so that later runs can use it.

    The functions know what they work on. A stage gives them the slot of the machine that they may
    use.

    Attributes:
        name: the name of the stage. Its state, its log and its bar have the same name.
        run: a function that makes the result, and returns facts for the report.
        inputs: a function that returns what the result depends on. None: the stage runs each time.
        needs: stages that must be done first.
        after: stages that run first, if they are part of the same run.
        clear: a function that removes the result.
        begun: a function that returns whether an interrupted run left work that the next run can
            continue.
        cheap: whether the result is replaced without ``--force`` if the inputs changed.
        alone: whether no other stage may run at the same time, for example because the stage
            measures time.
        share: a function that makes one of several shares of the result, given the number of the
            share (from 1) and the number of shares. None: jobs cannot share the work.
    """

    name: str
    run: Callable[[Slot], dict[str, Any]]
    inputs: Callable[[Slot], dict[str, Any]] | None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    clear: Callable[[], None] = _nothing
    begun: Callable[[], bool] = lambda: False
    cheap: bool = False
    alone: bool = False
    share: Callable[[Slot, tuple[int, int]], None] | None = None

    def execute(self, folder: RunFolder, slot: Slot = WHOLE, force: bool = False) -> None:
        """Run the stage, unless its result exists.

        Args:
            folder: the folder of the run.
            slot: the part of this machine that the stage may use.
            force: remove an existing result first.

        Raises:
            PipelineError: an earlier stage is not done, the result was made with other settings,
                or the stage failed.
        """
        self._check_needs(folder)
        if self.inputs is None:
            with _named(self.name):
                self.run(slot)
            return
        inputs = state.canonical(self.inputs(slot))
        record = self._usable(folder, inputs, force)
        if record is not None and record.done:
            say(f"{self.name}: done already")
            return
        with (
            state.stage_locked(folder.run_dir, self.name),
            _named(self.name, folder.log(self.name)),
        ):
            state.write(folder.run_dir, self.name, state.Record(inputs))
            facts = self.run(slot)
            state.write(folder.run_dir, self.name, state.Record(inputs, done=True, facts=facts))

    def begin(self, folder: RunFolder, slot: Slot) -> bool:
        """Record the inputs of the result before several processes share the work.

        Returns:
            Whether there is work to do.

        Raises:
            PipelineError: see `execute`.
        """
        self._check_needs(folder)
        inputs = state.canonical(self.inputs(slot) if self.inputs else {})
        record = self._usable(folder, inputs, force=False)
        if record is None:
            state.write(folder.run_dir, self.name, state.Record(inputs))
        return record is None or not record.done

    def _check_needs(self, folder: RunFolder) -> None:
        for need in self.needs:
            if not state.is_done(folder.run_dir, need):
                raise PipelineError(f"{self.name} needs {need}, which is not done: run it first")

    def _usable(self, folder: RunFolder, inputs: state.Inputs, force: bool) -> state.Record | None:
        """Return the state of the result, or None if the stage must start from the beginning.

        A result is removed if `force` is set, or if the stage is `cheap` and its inputs changed.
        """
        record = state.read(folder.run_dir, self.name)
        if record is None or not (force or record.done or self.begun()):
            return None
        if force or (self.cheap and record.inputs != inputs):
            state.forget(folder.run_dir, self.name)
            self.clear()
            return None
        if record.inputs != inputs:
            made = "was made" if record.done else "was begun"
            changes = "; ".join(state.changes(record.inputs, inputs))
            raise PipelineError(
                f"{self.name} {made} with other settings ({changes}): restore them, or redo it "
                # A stage of a sweep or a comparison cannot be named on a command line.
                f"with --force{'' if '/' in self.name else f' {self.name}'}"
            )
        return record


@contextlib.contextmanager
def _named(stage: str, log: Path | None = None) -> Iterator[None]:
    """Add the stage's name and the path of its log to errors of the block."""
    try:
        yield
    except (PipelineError, OSError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        where = f" (log: {log})" if log is not None and log.exists() else ""
        raise PipelineError(f"stage {stage} failed: {reason}{where}") from None


def share_is_there(share: tuple[int, int]) -> str:
    """Return the message that one of several shares of a stage's work is done."""
    return "share {} of {} is done; when all shares are, run the stage without --shard".format(
        *share
    )
