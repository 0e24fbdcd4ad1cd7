"""Same seed, same table, however many trainings run at the same time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pipeline.comparing import assert_same_runs

pytestmark = pytest.mark.slow


def test_stages_side_by_side_are_those_one_after_the_other(finished):
    again = replace(finished, runs="other runs")
    again.pipeline("--jobs", 2)
    assert_same_runs(again, finished)
