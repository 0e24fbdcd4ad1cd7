"""Which points a sweep has, without a training."""

from __future__ import annotations

import pandas as pd
import pytest
from pipeline import sweep
from pipeline.engine import state
from pipeline.engine.errors import PipelineError


@pytest.fixture
def points(pair):
    return lambda *words: list(sweep.points_of(pair, sweep.parser().parse_args(["demo", *words])))


def test_by_default_it_is_the_papers_figure(points):
    found = points()
    assert len(found) == 2 * len(sweep.WEIGHTS) * len(sweep.SIZES)
    assert {point.model.name for point in found} == {"kd", "ka"}
    assert found[0].training(sweep.FOLDER).name == "sweep/kd-weight0.1-k2"
    assert "optimization.lr" not in found[0].training(sweep.FOLDER).settings


def test_the_control_has_a_rate_and_nothing_else(points):
    found = points(
        *("--criterions", "control,topk", "--rates", "0.002,0.005", "--weights", "0.5,0.8"),
        *("--top-k", "config"),
    )
    trainings = [point.training(sweep.FOLDER) for point in found]
    assert [training.name for training in trainings] == [
        "sweep/control-rate0.002",
        "sweep/control-rate0.005",
        "sweep/topk-rate0.002-weight0.5",
        "sweep/topk-rate0.005-weight0.5",
        "sweep/topk-rate0.002-weight0.8",
        "sweep/topk-rate0.005-weight0.8",
    ]
    assert trainings[0].teacher is None
    assert trainings[2].settings["optimization.lr"] == [0.002]
    assert "criterion.top_k" not in trainings[2].settings


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--rates", "0", "a learning rate is above 0"),
        ("--top-k", "configs", "configs"),
    ],
)
def test_an_option_with_a_mistake_is_refused(points, capsys, option, value, says):
    with pytest.raises(SystemExit):
        points(option, value)
    assert says in capsys.readouterr().err


def test_only_fine_tunings_are_tuned(points):
    with pytest.raises(PipelineError, match=r"learner is no .* control, kd, ka, mixture, topk, "):
        points("--criterions", "learner")


def test_the_best_of_each_model_where_k_was_not_varied(pair):
    path = sweep.results_file(pair)
    path.parent.mkdir(parents=True)
    path.write_text(
        "model,criterion,learning_rate,transfer_weight,top_k,bleu\n"
        "control,label_smoothed_cross_entropy,0.002,,,20\n"
        "control,label_smoothed_cross_entropy,0.005,,,21\n"
        "kd,forward_kl,0.002,0.5,,23\nkd,forward_kl,0.005,0.5,,22\n",
        encoding="utf-8",
    )
    best = sweep.draw(pair)
    assert list(best.bleu) == [21, 23]
    assert list(best.learning_rate) == [0.005, 0.002]
    assert "top_k" not in best
    assert list(pd.read_csv(path.with_name("best.csv")).bleu) == [21, 23]
    assert not path.with_name("best.png").exists()


def test_what_the_points_need_and_is_not_done_runs_first(pair, points):
    found = points("--criterions", "ka", "--weights", "0.5", "--top-k", "8")
    names = [stage.name for stage in sweep.planned(pair, found)]
    own = "sweep/ka-weight0.5-k8"
    assert names == ["prepare", "binarize", "teacher", "cache.teacher", own]
    state.write(pair.files.run_dir, "binarize", state.Record({}, done=True))
    state.write(pair.files.run_dir, "teacher", state.Record({}, done=True))
    again = sweep.planned(pair, found, force=True)
    assert {stage.name: stage.cheap for stage in again} == {"cache.teacher": True, own: True}
    (_, kept) = sweep.planned(pair, found)
    assert not kept.cheap
