"""Same seed, same table, however many trainings run at the same time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pipeline.comparing import assert_same_runs

pytestmark = pytest.mark.slow


# Enough to stand side by side: what the other fine-tunings would add is one more of a kind.
MODELS = ("teacher", "learner", "control", "kd", "ka")


def test_stages_side_by_side_are_those_one_after_the_other(finished):
    again = replace(finished, runs="other runs")
    after = ("evaluate", "export", "speed", "report")
    again.pipeline("prepare", "binarize", *MODELS, *after, "--jobs", 2)
    assert_same_runs(again, finished, MODELS)
