"""Three kills at the places that matter most; all the others are in test_killed.py."""

from __future__ import annotations

import pytest
from pipeline.engine import state

from tests import killing
from tests.pipeline.comparing import assert_same_trainings
from tests.pipeline.project import BINARIZED, environment

pytestmark = pytest.mark.slow


def first(events: list[str], *marks: str) -> str:
    """The first event that has all of these in it."""
    return next(event for event in events if all(mark in event for mark in marks))


def test_a_run_that_was_killed_three_times_is_the_one_that_was_not(finished):
    """In an update of the second epoch, in the middle of its checkpoint's write, and in evaluate.

    From the first two it goes on with the first epoch's checkpoint.
    """
    trained = ("teacher", "learner", "state/teacher.json", "state/learner.json")
    killed = finished.copied("runs killed thrice", *BINARIZED, *trained, "state/cache.teacher.json")
    stages = killed.command("ka", "evaluate.ka", "--jobs", 1)
    events = killing.events(finished.trace)
    moments = [
        killing.Moment(first(events, "hydra_train/ka train_inner", "@35")),
        killing.Moment(first(events, "write ka/checkpoint", ".pt.tmp @40"), bytes=100_000),
        killing.Moment(first(events, "log fairseq_cli.generate", "Translated")),
    ]
    printed = "".join(
        killing.run_and_kill(stages, environment(), killed.run_dir, moment) for moment in moments
    )
    assert printed.count("ka: going on from its last checkpoint") == 2
    assert state.is_done(killed.run_dir, "ka") and not state.is_done(killed.run_dir, "evaluate.ka")
    killed.pipeline("ka", "evaluate.ka", "--jobs", 1)
    assert_same_trainings(killed, finished, "ka")
    translations = [project.run_dir / "evaluate" / "ka.en" for project in (killed, finished)]
    assert translations[0].read_bytes() == translations[1].read_bytes()
