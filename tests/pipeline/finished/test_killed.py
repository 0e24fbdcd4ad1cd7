"""``kill -9``, again and again: what comes out at the end is what an uninterrupted run gives."""

from __future__ import annotations

import itertools
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from pipeline import state

from tests import killing
from tests.pipeline.comparing import (
    assert_same_losses,
    assert_same_parameters,
    assert_same_runs,
)
from tests.pipeline.project import environment

pytestmark = pytest.mark.slow

# Of the pipeline, in the order in which they come; with those of fairseq-train they are 20.
KILLS = {
    "prepare": 1,
    "binarize": 1,
    "teacher": 2,
    "learner": 2,
    "control": 1,
    "cache": 1,
    "kd": 1,
    "ka": 1,
    "mixture": 1,
    "topk": 1,
    "evaluate": 1,
    "export": 1,
    "speed": 1,
    "report": 1,
}
KILLS_OF_FAIRSEQ_TRAIN = 4
SEED = 8


def draw(events: list[str], count: int, seed: random.Random) -> Iterator[killing.Moment]:
    """Moments in the order in which they come; of a training, one in three each of three kinds."""
    kinds = {"update": " @", "checkpoint": ".pt.tmp", "any": ""}
    places = {
        kind: [place for place, event in enumerate(events) if mark in event] or range(len(events))
        for kind, mark in kinds.items()
    }
    turns = itertools.islice(itertools.cycle(seed.sample(list(places), len(places))), count)
    for place in sorted(seed.choice(places[kind]) for kind in turns):
        halves = events[place].startswith("write") and ".pt.tmp" in events[place]
        yield killing.Moment(events[place], seed.randrange(1, 300_000) if halves else None)


def by_stage(events: list[str]) -> dict[str, list[str]]:
    """What each stage did: from the end of the one before to where it is marked as done."""
    found, start = {}, 0
    for stage in KILLS:
        ends = [n for n, event in enumerate(events) if event.startswith(f"rename state/{stage}.")]
        end = max(ends, default=len(events) - 1) + 1
        found[stage] = events[start:end]
        start = end
    return found


def test_twenty_kills_change_nothing(finished, fine_tuned, tmp_path):
    assert sum(KILLS.values()) + KILLS_OF_FAIRSEQ_TRAIN == 20
    seed = random.Random(SEED)

    killed = replace(finished, runs="runs that are killed")
    one_by_one = killed.command("--jobs", 1)
    stages = by_stage(killing.events(finished.trace))
    moments = [m for name, n in KILLS.items() for m in draw(stages[name], n, seed)]
    for moment in moments:
        killing.run_and_kill(one_by_one, environment(), killed.run_dir, moment)
    killed.pipeline("--jobs", 1)
    assert_same_runs(killed, finished)

    folder, said = tmp_path / "killed", ""
    for moment in draw(killing.events(fine_tuned.trace), KILLS_OF_FAIRSEQ_TRAIN, seed):
        command = finished.fine_tuning(folder)
        said += killing.run_and_kill(command, environment(), folder, moment)
    said += finished.fine_tune(folder)
    assert_same_losses(said, fine_tuned.printed)
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert_same_parameters(folder / name, fine_tuned.folder / name)


def test_a_kill_that_meets_two_trainings_is_a_kill_of_neither(finished):
    killed = replace(finished, runs="runs killed side by side")
    for name in ("bin", "text", "state/prepare.json", "state/binarize.json"):
        source, target = finished.run_dir / name, killed.run_dir / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    both = killed.command("teacher", "learner", "--jobs", 2)
    # The teacher has eight times as much to do before its end.
    for at in ("log fairseq_cli.hydra_train/learner train_inner @10", "write learner/"):
        event = next(event for event in killing.events(finished.trace) if event.startswith(at))
        killing.run_and_kill(both, environment(), killed.run_dir, killing.Moment(event))
        for name in ("teacher", "learner"):
            record = state.read(killed.run_dir, name)
            assert record is not None and not record.done
    killed.pipeline("teacher", "learner", "--jobs", 2)
    for name in ("teacher", "learner"):
        assert_same_losses(*(p.log(name).read_text("utf-8") for p in (killed, finished)))
        for file in ("checkpoint_best.pt", "checkpoint_last.pt", "model.pt"):
            assert_same_parameters(killed.run_dir / name / file, finished.run_dir / name / file)
