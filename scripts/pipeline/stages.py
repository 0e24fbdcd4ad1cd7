"""The stages, in their order, and the rules for when one runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import binarize, evaluate, files, prepare, state
from pipeline.errors import PipelineError, describe
from pipeline.settings import Pair
from pipeline.train import Training

TRAININGS = (
    Training("teacher"),
    Training("learner"),
    Training("control", start="learner"),
    Training("kd", start="learner", teacher="teacher"),
    Training("ka", start="learner", teacher="teacher"),
    Training("mixture", start="learner", teacher="teacher"),
    Training("topk", start="learner", teacher="teacher"),
)


@dataclass(frozen=True)
class Stage:
    """A stage whose result is kept and used again.

    Attributes:
        name: what users type.
        needs: stages that must be done before.
        inputs: says what the result depends on.
        run: makes the result and returns facts for the report.
        clear: removes the result.
        begun: whether a run that was cut off left work that the next one goes on with.
    """

    name: str
    needs: tuple[str, ...]
    inputs: Callable[[Pair], dict[str, Any]]
    run: Callable[[Pair], dict[str, Any]]
    clear: Callable[[Pair], None]
    begun: Callable[[Pair], bool] = lambda pair: False

    def execute(self, pair: Pair, force: bool) -> None:
        """Run the stage unless its result is there.

        Raises:
            PipelineError: an earlier stage is not done, the result was made from other settings
                than today's, or the stage failed.
        """
        for need in self.needs:
            if not state.is_done(pair.run_dir, need):
                raise PipelineError(f"{self.name} needs {need}, which is not done")
        inputs = state.canonical(self.inputs(pair))
        record = state.read(pair.run_dir, self.name)
        if record is not None and force:
            state.forget(pair.run_dir, self.name)
            self.clear(pair)
            record = None
        if record is not None and not record.done and not self.begun(pair):
            record = None
        if record is not None and record.inputs != inputs:
            made = "was made" if record.done else "was begun"
            changes = "; ".join(state.changes(record.inputs, inputs))
            raise PipelineError(
                f"{self.name} {made} with other settings ({changes}): take them back, or redo it "
                f"with --force {self.name}"
            )
        if record is not None and record.done:
            print(f"{self.name}: done already")
            return
        with _named(self.name, pair.log(self.name)):
            state.write(pair.run_dir, self.name, state.Record(inputs))
            facts = self.run(pair)
            state.write(pair.run_dir, self.name, state.Record(inputs, done=True, facts=facts))


@contextlib.contextmanager
def _named(stage: str, log: Path | None = None) -> Iterator[None]:
    """Have errors say which stage failed, and where its log is."""
    try:
        yield
    except (PipelineError, OSError) as error:
        reason = describe(error) if isinstance(error, OSError) else error
        where = f" (log: {log})" if log is not None and log.exists() else ""
        raise PipelineError(f"stage {stage} failed: {reason}{where}") from None


def training_stage(training: Training) -> Stage:
    """Return the stage that makes a model."""
    t = training
    return Stage(t.name, t.needs, t.inputs, t.run, t.clear, t.begun)


def _evaluate(pair: Pair, force: bool) -> None:
    done = [t.name for t in TRAININGS if state.is_done(pair.run_dir, t.name)]
    if not done:
        raise PipelineError("evaluate needs a trained model, and none is done")
    for model in done:
        if force:
            state.forget(pair.run_dir, f"evaluate.{model}")
        with _named("evaluate", pair.log(f"evaluate.{model}")):
            evaluate.evaluate_model(pair, model)
    print(f"evaluate: {', '.join(done)}")


def _report(pair: Pair, force: bool) -> None:
    if not any(evaluate.scores(pair, training.name) for training in TRAININGS):
        raise PipelineError("report needs evaluate, which is not done")
    from pipeline import report  # not above: it takes torch, fairseq and matplotlib, for seconds

    with _named("report"):
        table = report.build(pair)
    print(f"\n{table}")
    print(f"report: {pair.run_dir / 'report.html'} (and report.md, report.json)")


_KEPT = (
    Stage(
        "prepare",
        (),
        prepare.inputs,
        prepare.run,
        lambda pair: files.remove(pair.text_dir),
    ),
    Stage(
        "binarize",
        ("prepare",),
        binarize.inputs,
        binarize.run,
        lambda pair: files.remove(pair.bin_dir),
    ),
    *(training_stage(training) for training in TRAININGS),
)

# `evaluate` and `report` are cheap and look at what is there, so they run whenever asked.
STAGES: dict[str, Callable[[Pair, bool], None]] = {
    **{stage.name: stage.execute for stage in _KEPT},
    "evaluate": _evaluate,
    "report": _report,
}
