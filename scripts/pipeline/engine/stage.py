"""A stage, and the rules for when it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine import state
from pipeline.engine.errors import PipelineError, describe
from pipeline.engine.progress import say

if TYPE_CHECKING:
    from pipeline.models.settings import Pair


def _nothing(pair: Pair) -> None:
    """Delete nothing: the default, for a stage that overwrites its result."""


@dataclass(frozen=True)
class Stage:
    """A step whose result is kept and used again.

    Attributes:
        name: of its state, its log and its bar.
        run: makes the result and returns facts for the report.
        inputs: says what the result depends on; None: it is made whenever it is asked for.
        needs: stages that must be done before.
        after: stages that come before where they are asked for, too.
        clear: removes the result.
        begun: whether a run that was cut off left work that the next one goes on with.
        cheap: where the inputs are others than those of the result, it is made anew without asking.
        alone: nothing runs beside it, as where time is what it measures.
    """

    name: str
    run: Callable[[Pair], dict[str, Any]]
    inputs: Callable[[Pair], dict[str, Any]] | None
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    clear: Callable[[Pair], None] = _nothing
    begun: Callable[[Pair], bool] = lambda pair: False
    cheap: bool = False
    alone: bool = False

    def missing(self, pair: Pair) -> list[str]:
        """Return the stages that must be done before and are not."""
        return [need for need in self.needs if not state.is_done(pair.run_dir, need)]

    def execute(self, pair: Pair, force: bool = False) -> None:
        """Run the stage unless its result is there.

        Raises:
            PipelineError: an earlier stage is not done, the result was made from other settings
                than today's, or the stage failed.
        """
        if missing := self.missing(pair):
            raise PipelineError(f"{self.name} needs {missing[0]}, which is not done")
        if self.inputs is None:
            with _named(self.name):
                self.run(pair)
            return
        inputs = state.canonical(self.inputs(pair))
        record = self._usable(pair, inputs, force)
        if record is not None and record.done:
            say(f"{self.name}: done already")
            return
        with (
            state.stage_locked(pair.run_dir, self.name),
            _named(self.name, pair.log(self.name)),
        ):
            state.write(pair.run_dir, self.name, state.Record(inputs))
            facts = self.run(pair)
            state.write(pair.run_dir, self.name, state.Record(inputs, done=True, facts=facts))

    def begin(self, pair: Pair) -> bool:
        """Note what the result is made from, for several processes that share the work.

        Returns:
            Whether there is anything to do.

        Raises:
            PipelineError: as `execute`.
        """
        if missing := self.missing(pair):
            raise PipelineError(f"{self.name} needs {missing[0]}, which is not done")
        inputs = state.canonical(self.inputs(pair) if self.inputs else {})
        record = self._usable(pair, inputs, force=False)
        if record is None:
            state.write(pair.run_dir, self.name, state.Record(inputs))
        return record is None or not record.done

    def _usable(self, pair: Pair, inputs: state.Inputs, force: bool) -> state.Record | None:
        """Return the state of the result, if it goes with these inputs; remove it if it may be."""
        record = state.read(pair.run_dir, self.name)
        if record is None or not (force or record.done or self.begun(pair)):
            return None
        if force or (self.cheap and record.inputs != inputs):
            state.forget(pair.run_dir, self.name)
            self.clear(pair)
            return None
        if record.inputs != inputs:
            made = "was made" if record.done else "was begun"
            changes = "; ".join(state.changes(record.inputs, inputs))
            raise PipelineError(
                f"{self.name} {made} with other settings ({changes}): take them back, or redo it "
                # What belongs to a sweep or a comparison is no word of a command line.
                f"with --force{'' if '/' in self.name else f' {self.name}'}"
            )
        return record


@contextlib.contextmanager
def _named(stage: str, log: Path | None = None) -> Iterator[None]:
    """Have errors say which stage failed, and where its log is."""
    try:
        yield
    except (PipelineError, OSError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        where = f" (log: {log})" if log is not None and log.exists() else ""
        raise PipelineError(f"stage {stage} failed: {reason}{where}") from None


def share_is_there(share: tuple[int, int]) -> str:
    """Say that one of several shares of a stage's work is done."""
    return "share {} of {} is there; when all are, go on without --shard".format(*share)
