from __future__ import annotations

import itertools

import pytest
from pipeline.results import caveats
from pipeline.results.significance import Interval

NAMES = {"teacher": "the teacher", "learner": "the learner", "ka": "KA", "kd": "KD", "topk": "top"}
FLAT = dict(enumerate([10, 15, 18, 18.1, 18.0, 18.1], start=1))
RISING = dict(enumerate([10, 12, 14, 16.0, 16.5, 17.0], start=1))
SCORES = {"teacher": 26.0, "learner": 20.0, "ka": 22.0, "kd": 21.2, "topk": 20.8}


def rows(**scores):
    return [{"model": model, "bleu": bleu} for model, bleu in (SCORES | scores).items()]


def intervals(table, half_width):
    """As wide for each two of them."""
    return {
        (one["model"], other["model"]): Interval(
            one["bleu"] - other["bleu"] - half_width, one["bleu"] - other["bleu"] + half_width
        )
        for one, other in itertools.permutations(table, 2)
    }


def kinds(table=None, curves=None, half_width=0.3):
    table = table or rows()
    curves = curves or dict.fromkeys(NAMES, FLAT)
    found = caveats.warnings(table, curves, intervals(table, half_width), 458, NAMES)
    return [warning.kind for warning in found]


def test_a_sound_table_has_no_warnings():
    assert kinds() == []


def test_each_fault_has_its_warning():
    curves = {"teacher": RISING, "learner": FLAT, "ka": {1: 18.0}}
    assert kinds(rows(teacher=20.5), curves, half_width=1) == [
        "still rising",
        "validated once",
        "nothing to recover",
        "small test set",
    ]


def test_models_that_still_rise_are_named_with_their_slopes():
    found = caveats.still_rising({"teacher": RISING, "learner": FLAT, "ka": RISING}, NAMES)
    assert found.values == {
        model: {"per_epoch": pytest.approx(0.5), "epochs": 3} for model in ("teacher", "ka")
    }
    assert "the teacher (+0.50 an epoch over its last 3), KA (+0.50" in found.text
    assert "the learner" not in found.text
    assert caveats.still_rising({"teacher": FLAT, "learner": FLAT}, NAMES) is None


def test_a_single_validation_is_told():
    found = caveats.validated_once({"teacher": {3: 20.0}, "learner": FLAT, "ka": {}}, NAMES)
    assert found.values == {"models": ["teacher"]} and found.text.endswith(": the teacher.")
    assert caveats.validated_once({"teacher": FLAT, "learner": {}}, NAMES) is None


@pytest.mark.parametrize(
    ("teacher", "said"),
    [(20.9, "only 0.9 BLEU above"), (19.5, "0.5 BLEU below"), (21.0, None), (26.0, None)],
)
def test_a_teacher_without_a_gap(teacher, said):
    found = caveats.nothing_to_recover(rows(teacher=teacher))
    assert (found is None) == (said is None)
    assert found is None or said in found.text


def test_without_a_teacher_no_gap_is_missed():
    assert caveats.nothing_to_recover(rows()[1:]) is None


@pytest.mark.parametrize(("half_width", "small"), [(0.5, False), (0.7, True)])
def test_a_small_test_set_shows_in_intervals_wider_than_the_differences(half_width, small):
    """The largest difference between the fine-tunings is 1.2; teacher and learner do not count."""
    table = rows()
    found = caveats.small_test_set(table, intervals(table, half_width), 458)
    assert (found is not None) == small
    if small:
        assert "458 sentences" in found.text and "1.40 BLEU wide" in found.text
        assert found.values["largest_difference"] == pytest.approx(1.2)


@pytest.mark.parametrize("models", [("teacher", "learner"), ("ka",), ()])
def test_fewer_than_two_fine_tunings_have_no_order(models):
    table = [row for row in rows() if row["model"] in models]
    found = intervals(table, 5)
    assert caveats.small_test_set(table, found, 458) is None
    assert caveats.leader(table, found) is None


@pytest.mark.parametrize(("half_width", "best"), [(0.7, True), (0.9, False)])
def test_the_first_is_the_best_where_its_interval_excludes_zero(half_width, best):
    table = rows()
    found = caveats.leader(table, intervals(table, half_width))
    assert (found["model"], found["second"]) == ("ka", "kd")
    assert found["bleu"] == pytest.approx(0.8)
    assert found["best"] == best


def test_two_firsts_are_not_the_best():
    table = rows(kd=22.0)
    assert not caveats.leader(table, intervals(table, 0))["best"]
