"""``kill -9``, again and again: what comes out at the end is what an uninterrupted run gives."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest
from pipeline.engine import state

from tests import killing
from tests.pipeline.comparing import (
    assert_same_losses,
    assert_same_parameters,
    assert_same_runs,
    assert_same_trainings,
)
from tests.pipeline.project import BINARIZED, MODELS, environment

pytestmark = [pytest.mark.slow, pytest.mark.extended]

# Of the pipeline, in the order in which the stages come: one in each kind of stage that takes long,
# and that later commands name. Three more kills are in test_killed_in_short.py.
KILLS = {
    "prepare": 0,
    "binarize": 1,
    "teacher": 1,
    "learner": 0,
    "control": 1,
    "cache": 1,
    "ka": 0,
    "translate": 1,
    "text": 0,
    "seq_kd": 0,
    "evaluate": 0,
    "export.teacher": 1,
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


def test_kills_and_stages_side_by_side_change_nothing(finished):
    """After the kills the rest runs two at a time: a killed fine-tuning beside other trainings.

    A teacher and a learner side by side are in the test below; the analysis is in
    test_other_criterions.py.
    """
    seed = random.Random(SEED)
    killed = finished.copied("runs that are killed", "bin/dict.de.txt")  # a folder for the lock
    stages = by_stage(killing.events(finished.trace))
    for name, count in KILLS.items():
        for moment in draw(stages[name], count, seed):
            command = killed.command(name, "--jobs", 1)
            killing.run_and_kill(command, environment(), killed.run_dir, moment)
    printed = f"\n{killed.pipeline('--jobs', 2)}"
    for name in MODELS:
        there = name in ("teacher", "learner")
        assert (f"\n{name}: done already\n" in printed) == there
    assert "\ncontrol: going on from its last checkpoint\n" in printed
    assert_same_runs(killed, finished)


def test_kills_of_fairseq_train_change_nothing(finished, fine_tuned, tmp_path):
    folder, said = tmp_path / "killed", ""
    seed = random.Random(SEED)
    for moment in draw(killing.events(fine_tuned.trace), KILLS_OF_FAIRSEQ_TRAIN, seed):
        command = finished.fine_tuning(folder)
        said += killing.run_and_kill(command, environment(), folder, moment)
    said += finished.fine_tune(folder)
    assert_same_losses(said, fine_tuned.printed)
    for name in ("checkpoint_best.pt", "checkpoint_last.pt"):
        assert_same_parameters(folder / name, fine_tuned.folder / name)


def test_a_kill_that_meets_two_trainings_is_a_kill_of_neither(finished):
    killed = finished.copied("runs killed side by side", *BINARIZED)
    both = killed.command("teacher", "learner", "--jobs", 2)
    # The teacher has eight times as much to do before its end.
    for at in ("log fairseq_cli.hydra_train/learner train_inner @10", "write learner/"):
        event = next(event for event in killing.events(finished.trace) if event.startswith(at))
        killing.run_and_kill(both, environment(), killed.run_dir, killing.Moment(event))
        for name in ("teacher", "learner"):
            record = state.read(killed.run_dir, name)
            assert record is not None and not record.done
    killed.pipeline("teacher", "learner", "--jobs", 2)
    assert_same_trainings(killed, finished, "teacher", "learner")
