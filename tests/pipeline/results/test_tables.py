"""Cells and notes of the tables of scores."""

from __future__ import annotations

import pytest
from pipeline.results import score_tables, tables

NAMES = {"teacher": "teacher", "learner": "learner", "ka": "KA", "kd": "KD"}


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((0.44, -0.26, 1.1), "+0.4 [-0.3, 1.1]"),
        ((-0.04, -0.04, 0.0), "+0.0 [0.0, 0.0]"),
        ((-2, -3, -1), "-2.0 [-3.0, -1.0]"),
    ],
)
def test_a_difference_has_its_interval(numbers, shown):
    found = tables.difference(dict(zip(("mean", "low", "high"), numbers, strict=True)))
    assert found == shown and (found.value, found.low, found.high) == numbers


@pytest.mark.parametrize(
    ("value", "shown"), [(0.1234, "0.123"), (0.0005, "<0.001"), (1.0, "1.000")]
)
def test_a_p_value_has_three_digits(value, shown):
    assert tables.p_value(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        ({"bleu": 0.4211}, "42 %"),
        ({"bleu": -0.13}, "-13 %"),
        ({"bleu": -0.001}, "0 %"),
        ({"bleu": None}, "–"),
        (None, "–"),
    ],
)
def test_the_gap_recovered_is_a_share(share, shown):
    assert tables.share(share) == shown


def model(name, **more):
    known = {"valid_bleu": [], "lenpen": [1.0], "parameters": None, "train_minutes": [1.25]}
    return {"model": name, "trained_before": False, "export": None, **known, **more}


def content(*models, baselines=(), measured=None, points=(), gap=None):
    score = {"mean": 20.04, "sd": None, "by_seed": [20.04]}
    rows = [
        {"model": m["model"], "bleu": score, "chrf": score, "gap_recovered": gap, "differences": {}}
        for m in models
    ]
    found = {"models": models, "baselines": baselines, "measured": measured, "seeds": [None]}
    found["tests"] = [{"name": "test", "rows": rows}]
    found["operating_points"] = {"test": {"rows": list(points)}}
    return {**found, "decoding": {"beam": 6}, "comet": None}


def test_what_is_not_known_has_a_dash():
    unknown = content(model("ka", train_minutes=[None]))
    (found,) = score_tables.trainings(unknown, NAMES)
    assert [found[head] for head in ("BLEU, validation", "train minutes")] == ["–"] * 2
    assert score_tables.model_sizes(unknown, NAMES)[0]["parameters"] == "–"


def test_minutes_before_this_run_are_in_brackets():
    found = score_tables.trainings(
        content(model("teacher", trained_before=True), model("ka")), NAMES
    )
    assert [cells["train minutes"] for cells in found] == ["(1.2)", "1.2"]


MEASURED = {
    "quantization": "int8",
    "repeats": 3,
    "sentences": 200,
    "settings": {"all_threads": {"threads": 8}, "one_thread": {"threads": 1}},
}


def test_the_notes_say_what_quantization_costs_and_what_was_refused():
    refused = model("kd", export={"refused": "CTranslate2 has no adaptive softmax"})
    places = (("teacher", 6, 20.04), ("ka", 6, 19.7), ("ka", 1, 10.0))  # scored above at beam 6
    points = [{"model": name, "beam": beam, "bleu": bleu} for name, beam, bleu in places]
    found = content(model("teacher"), model("ka"), refused, measured=MEASURED, points=points)
    *_, size, how, loss, other = score_tables.notes(found, NAMES)
    assert "by CTranslate2, int8" in size and "3 repeats over 200 test sentences a thread" in how
    assert "-0.3 to +0.0 BLEU" in loss  # a row's BLEU is 20.04
    assert other == "Not exported: KD: CTranslate2 has no adaptive softmax"


@pytest.mark.parametrize(
    ("best", "seeds", "said"),
    [
        (True, 3, "Best method: KA, "),
        (True, 1, "Best with this seed: KA, "),
        (False, 3, "No method is marked"),
        (False, 1, "No method is marked"),
    ],
)
def test_it_is_said_whether_one_is_the_best(best, seeds, said):
    leader = {"model": "ka", "second": "kd", "bleu": 0.4, "low": -0.1, "high": 0.9, "best": best}
    found = tables.leader(leader, NAMES, seeds=seeds)
    assert found.startswith(said)
    assert ("Other seeds may" in found) == (best and seeds == 1)
    assert "+0.4 [-0.1, 0.9] BLEU" in found and "against the second, KD" in found


def test_notes_are_of_the_columns_that_are_there():
    def kinds(**more):
        return [
            note.split(":")[0] for note in score_tables.notes(content(model("ka"), **more), NAMES)
        ]

    always = [note.split(":")[0] for note in (score_tables.ONE_TRAINING, "Length:", tables.MINUTES)]
    assert kinds() == always
    assert kinds(gap={"bleu": 0.4}) == [always[0], "Gap recovered", *always[1:]]
    assert {"vs KD", "In brackets"} < set(kinds(baselines=("kd",)))
