"""Same seed, same table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.pipeline.comparing import assert_same_runs

pytestmark = pytest.mark.slow


def test_two_quick_runs_are_the_same_run(finished):
    again = replace(finished, runs="other runs")
    again.pipeline()
    assert_same_runs(again, finished)
