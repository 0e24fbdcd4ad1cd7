"""Same seed, same table, however many trainings run at the same time."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace

import pandas as pd
import pytest
from pipeline import training_log

from tests.pipeline.comparing import assert_same_runs

pytestmark = pytest.mark.slow

SEVERAL = ("learner", "control", "kd", "ka", "mixture", "topk")


def test_stages_side_by_side_are_those_one_after_the_other(finished):
    again = replace(finished, runs="other runs")
    again.pipeline("--jobs", 2)
    assert_same_runs(again, finished)


def test_a_second_seed_is_another_run_of_the_same(finished):
    again = replace(finished, runs="runs with seeds")
    shutil.copytree(finished.run_dir, again.run_dir)
    output = again.pipeline("--seeds", 2)
    scores = pd.read_csv(again.run_dir / "seeds.csv")
    assert list(scores.model.unique()) == ["teacher", *SEVERAL]
    assert set(scores[scores.model != "teacher"].groupby("model").seed.count()) == {2}
    logs = [again.run_dir / "logs" / f"{name}.log" for name in ("ka", "seeds/2/ka")]
    losses = [training_log.by_epoch(training_log.read(log), "train_loss") for log in logs]
    assert losses[0].keys() == losses[1].keys() and losses[0] != losses[1]
    assert "| KA (backward KL)" in output
    assert not re.search("^seeds/2/.*done already", output, re.MULTILINE)
    output = again.pipeline("--seeds", 2)
    assert len(re.findall("^(?:evaluate.)?seeds/2/.*done already", output, re.MULTILINE)) == 12
