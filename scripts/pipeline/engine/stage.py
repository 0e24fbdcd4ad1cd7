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
        name: the name of the stage, of its state, its log and its bar.
        run: makes the result and returns facts for the report.
        inputs: returns what the result depends on; None: the stage runs each time.
        needs: stages that must be done first.
        after: stages that run first, if they are part of the same run.
        clear: removes the result.
        begun: returns whether an interrupted run left work that the next run continues.
        cheap: if the inputs changed, the result is replaced without ``--force``.
        alone: no other stage runs at the same time, for example because the stage measures time.
        share: makes one of several shares of the result, given the share's number, from 1, and
            the number of shares; None: the work cannot be shared.
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
    share: Callable[[Pair, tuple[int, int]], None] | None = None

    def execute(self, pair: Pair, force: bool = False) -> None:
        """Run the stage, unless its result exists.

        Raises:
            PipelineError: an earlier stage is not done, the result was made with other settings,
                or the stage failed.
        """
        self._check_needs(pair)
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
        """Record the inputs of the result, for several processes that share the work.

        Returns:
            Whether there is work to do.

        Raises:
            PipelineError: see `execute`.
        """
        self._check_needs(pair)
        inputs = state.canonical(self.inputs(pair) if self.inputs else {})
        record = self._usable(pair, inputs, force=False)
        if record is None:
            state.write(pair.run_dir, self.name, state.Record(inputs))
        return record is None or not record.done

    def _check_needs(self, pair: Pair) -> None:
        for need in self.needs:
            if not state.is_done(pair.run_dir, need):
                raise PipelineError(f"{self.name} needs {need}, which is not done: run it first")

    def _usable(self, pair: Pair, inputs: state.Inputs, force: bool) -> state.Record | None:
        """Return the state of the result, or None if the stage must start from the beginning.

        A result that may be replaced, by `force` or as `cheap`, is removed.
        """
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
                f"{self.name} {made} with other settings ({changes}): restore them, or redo it "
                # A stage of a sweep or a comparison cannot be named on a command line.
                f"with --force{'' if '/' in self.name else f' {self.name}'}"
            )
        return record


@contextlib.contextmanager
def _named(stage: str, log: Path | None = None) -> Iterator[None]:
    """Add the stage that failed, and the path of its log, to errors of the block."""
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
