"""Same seed, same table, however many trainings run at the same time."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from tests.pipeline.comparing import MODELS, assert_same_runs

pytestmark = pytest.mark.slow
THERE = ("teacher", "learner", "mixture", "topk")  # from before


def test_stages_side_by_side_are_those_one_after_the_other(finished):
    """Three fine-tunings, of which two at a time; then what is made of all models.

    Before them only the teacher and the learner can be side by side: they are in test_killed. The
    analysis is in test_analysis.
    """
    again = replace(finished, runs="other runs")
    for folder in ("state", "logs"):
        (again.run_dir / folder).mkdir(parents=True)
    for name in ("bin", "text", "analysis", *THERE):
        shutil.copytree(finished.run_dir / name, again.run_dir / name)
    for name in ("prepare", "binarize", "cache.teacher", "analysis", *THERE):
        shutil.copy(finished.run_dir / "state" / f"{name}.json", again.run_dir / "state")
    for name in THERE:
        shutil.copy(finished.log(name), again.log(name))
    printed = f"\n{again.pipeline('--jobs', 2)}"
    for name in MODELS:
        assert (f"\n{name}: done already\n" in printed) == (name in THERE)
    assert_same_runs(again, finished)
