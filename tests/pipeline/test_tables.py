from __future__ import annotations

import pytest
from pipeline import tables

NAMES = {"teacher": "teacher", "learner": "learner", "ka": "KA", "kd": "KD"}


def row(model, gap=None, **differences):
    return {
        "model": model,
        "bleu": 20.04,
        "chrf": 45.06,
        "brevity_penalty": 0.9,
        "length_ratio": 0.95,
        "parameters": None,
        "train_minutes": 1.25,
        "gap_recovered": gap,
        "differences": differences,
    }


def difference(bleu, low, high, p_value):
    return {"bleu": bleu, "low": low, "high": high, "p_value": p_value}


def content(*rows, leader=None, baselines=("kd",)):
    return {"models": rows, "baselines": baselines, "leader": leader}


def scores(*rows, chrf_gap=False):
    return tables.scores(content(*rows), NAMES, chrf_gap=chrf_gap)[0]


@pytest.mark.parametrize(
    ("found", "shown", "p_shown"),
    [
        (difference(0.44, -0.26, 1.1, 0.1234), "+0.4 [-0.3, 1.1]", "0.123"),
        (difference(-0.04, -0.04, 0.0, 0.0005), "+0.0 [0.0, 0.0]", "<0.001"),
        (difference(-2, -3, -1, 1.0), "-2.0 [-3.0, -1.0]", "1.000"),
    ],
)
def test_differences(found, shown, p_shown):
    cells = scores(row("ka", kd=found))
    assert (cells["vs KD"], cells["p vs KD"]) == (shown, p_shown)


@pytest.mark.parametrize(
    ("gap", "shown", "with_chrf"),
    [
        ({"bleu": 0.4211, "chrf": 0.5}, "42 %", "42 % (50 %)"),
        ({"bleu": -0.13, "chrf": None}, "-13 %", "-13 % (–)"),
        ({"bleu": -0.001, "chrf": 1.2}, "0 %", "0 % (120 %)"),
        ({"bleu": None, "chrf": None}, "–", "–"),
    ],
)
def test_the_gap_recovered(gap, shown, with_chrf):
    assert scores(row("ka", gap))["gap recovered"] == shown
    assert scores(row("ka", gap), chrf_gap=True)["gap recovered (in chrF)"] == with_chrf


def test_teacher_and_learner_recover_nothing():
    found = tables.scores(
        content(row("teacher"), row("ka", {"bleu": 0.4, "chrf": 0.4})), NAMES, chrf_gap=False
    )
    assert [cells["gap recovered"] for cells in found] == ["–", "40 %"]


def test_what_is_not_known_has_a_dash():
    (found,) = tables.sizes(content(row("ka")), NAMES)
    assert found["parameters"] == "–"
    (found,) = tables.sizes(content({**row("ka"), "train_minutes": None}), NAMES)
    assert found["train minutes"] == "–"


def test_minutes_before_this_run_are_in_brackets():
    before = {**row("teacher"), "trained_before": True}
    found = tables.sizes(content(before, row("ka")), NAMES)
    assert [cells["train minutes"] for cells in found] == ["(1.2)", "1.2"]


@pytest.mark.parametrize(
    ("best", "said"), [(True, "Best fine-tuning: KA"), (False, "No fine-tuning is marked")]
)
def test_the_notes_say_whether_one_is_the_best(best, said):
    leader = {"model": "ka", "second": "kd", "bleu": 0.4, "low": -0.1, "high": 0.9, "best": best}
    first, *_ = tables.notes(content(row("ka"), row("kd"), leader=leader), NAMES)
    assert first.startswith(said) and "+0.4 [-0.1, 0.9] BLEU against the second, KD" in first


def test_notes_are_of_the_columns_that_are_there():
    alone = tables.notes(content(row("teacher"), baselines=()), NAMES)
    assert alone == []
    gaps = tables.notes(content(row("ka", {"bleu": 0.4, "chrf": 0.4}), baselines=()), NAMES)
    assert len(gaps) == 1 and gaps[0].startswith("Gap recovered")
