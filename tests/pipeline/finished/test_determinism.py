"""Same seed, same table, however many trainings run at the same time."""

from __future__ import annotations

import pytest

from tests.pipeline.comparing import assert_same_runs
from tests.pipeline.project import BINARIZED, MODELS

pytestmark = [pytest.mark.slow, pytest.mark.extended]

THERE = ("teacher", "learner")  # from before
OF_THEM = ("state/{}.json", "logs/{}.log", "{}")


def test_stages_side_by_side_are_those_one_after_the_other(finished):
    """A control, a fine-tuning and a training, two at a time; then what is made of all models.

    Before them only the teacher and the learner can be side by side: they are in test_killed. The
    analysis is in test_analysis.
    """
    parts = [part.format(name) for name in THERE for part in OF_THEM]
    text = ("texts", "state/text.best.json", "translated", "state/translate.teacher.json")
    more = ("analysis", "state/analysis.json", "state/cache.teacher.json")
    again = finished.copied("runs side by side", *BINARIZED, *parts, *text, *more)
    printed = f"\n{again.pipeline('--jobs', 2)}"
    for name in MODELS:
        assert (f"\n{name}: done already\n" in printed) == (name in THERE)
    assert_same_runs(again, finished)
