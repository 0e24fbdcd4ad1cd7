"""Same seed, same table, however many trainings run at the same time."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tests.pipeline.comparing import assert_same_runs

pytestmark = pytest.mark.slow


def test_stages_side_by_side_are_those_one_after_the_other(finished):
    """From the fine-tunings on: before them, only the teacher and the learner can be side by side.

    These two are so in test_killed.
    """
    again = replace(finished, runs="other runs")
    for name in ("bin", "text", "teacher", "learner"):
        shutil.copytree(finished.run_dir / name, again.run_dir / name)
    (again.run_dir / "state").mkdir()
    for name in ("prepare", "binarize", "teacher", "learner", "cache.teacher"):
        shutil.copy(finished.run_dir / "state" / f"{name}.json", again.run_dir / "state")
    (again.run_dir / "logs").mkdir()
    for name in ("teacher", "learner"):
        shutil.copy(finished.log(name), again.log(name))
    printed = again.pipeline("--jobs", 2)
    for name in ("control", "kd", "ka", "mixture", "topk"):
        assert f"\n{name}: done already\n" not in printed
    assert_same_runs(again, finished)
