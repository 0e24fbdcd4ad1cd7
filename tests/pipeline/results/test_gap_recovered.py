from __future__ import annotations

import pytest
from pipeline.results import gap_recovered


def rows(teacher=(26, 50), learner=(20, 44), **tuned):
    bases = {"teacher": teacher, "learner": learner}
    found = {model: scores for model, scores in (bases | tuned).items() if scores is not None}
    return [{"model": model, "bleu": b, "chrf": c} for model, (b, c) in found.items()]


def test_the_share_of_the_gap():
    found = gap_recovered.recovered(rows(kd=(23, 47), ka=(26, 51.5), control=(19.4, 44)))
    assert found == {
        "kd": {"bleu": pytest.approx(0.5), "chrf": pytest.approx(0.5)},
        "ka": {"bleu": pytest.approx(1), "chrf": pytest.approx(1.25)},
        "control": {"bleu": pytest.approx(-0.1), "chrf": pytest.approx(0)},
    }


@pytest.mark.parametrize("teacher", [(20.9, 50), (19, 50), (20, 44)])
def test_without_a_gap_in_bleu_there_is_no_share(teacher):
    found = gap_recovered.recovered(rows(teacher=teacher, ka=(21, 45)))
    assert found == {"ka": {"bleu": None, "chrf": None}}


def test_a_gap_of_one_is_one():
    assert gap_recovered.recovered(rows(teacher=(21, 45), ka=(20.5, 45)))["ka"]["bleu"] == 0.5


def test_without_a_gap_in_chrf_there_is_no_share_of_that():
    found = gap_recovered.recovered(rows(teacher=(26, 43), ka=(23, 45)))
    assert found == {"ka": {"bleu": 0.5, "chrf": None}}


@pytest.mark.parametrize("missing", ["teacher", "learner"])
def test_without_teacher_or_learner_there_is_no_gap(missing):
    table = rows(**{missing: None}, ka=(23, 45))
    assert gap_recovered.teacher_gap(table) is None
    assert gap_recovered.recovered(table) == {}
