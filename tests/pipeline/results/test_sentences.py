from __future__ import annotations

import pytest
from pipeline.engine import state
from pipeline.results import evaluate, sentences
from sacrebleu import sentence_chrf

from tests.pipeline import scored
from tests.pipeline.scored import REFERENCES, SOURCES, add

# In the order of the models: teacher, learner, kd, ka.
KD, KA = 2, 3


@pytest.fixture
def evaluated(pair):
    return scored.fill(pair)


def test_every_model_and_sentence(evaluated):
    found = sentences.collect(evaluated)
    titles = evaluated.titles
    assert found["titles"] == [titles[name] for name in ("teacher", "learner", "kd", "ka")]
    assert (found["all"], found["languages"]) == (12, ["de", "en"])
    assert [row["number"] for row in found["sentences"]] == list(range(1, 13))
    assert [row["source"] for row in found["sentences"]] == SOURCES
    assert [row["reference"] for row in found["sentences"]] == REFERENCES
    for place, name in enumerate(("teacher", "learner", "kd", "ka")):
        texts = [row["texts"][place] for row in found["sentences"]]
        assert texts == evaluate.hypotheses(evaluated, name)
        scores = [sentence_chrf(t, [r]).score for t, r in zip(texts, REFERENCES, strict=True)]
        assert [row["chrf"][place] for row in found["sentences"]] == pytest.approx(scores, abs=0.01)


def test_gains_and_losses_are_extremes(evaluated):
    found = sentences.collect(evaluated)
    assert found["compared"] == [KA, KD]
    extremes = sentences.extremes(found)
    (gain,), (loss,) = extremes["gains"], extremes["losses"]
    assert gain["reference"] == REFERENCES[3] and gain["texts"][KD] == "This is wrong"
    assert loss["source"] == SOURCES[5] and loss["texts"][KA] == ""
    assert gain["difference"] > 0 > loss["difference"]


def test_the_largest_first_and_no_more_than_are_shown(evaluated):
    worse = [line[: 30 - 2 * number] for number, line in enumerate(REFERENCES)]
    add(evaluated, "kd", worse)
    found = sentences.extremes(sentences.collect(evaluated))
    differences = [row["difference"] for row in found["gains"]]
    assert len(differences) == sentences.SHOWN and found["losses"][0]["number"] == 6
    assert differences == sorted(differences, reverse=True)
    assert found["gains"][0]["number"] == 12


def test_without_kd_the_last_two_are_compared(evaluated):
    state.forget(evaluated.files.run_dir, "evaluate.kd")
    found = sentences.collect(evaluated)
    assert [found["titles"][place] for place in found["compared"]] == [
        evaluated.titles["ka"],
        "learner",
    ]


def test_one_model_has_nothing_to_be_compared_with(evaluated):
    for name in ("learner", "kd", "ka"):
        state.forget(evaluated.files.run_dir, f"evaluate.{name}")
    assert sentences.collect(evaluated) is None


def test_of_a_long_test_set_sentences_at_equal_distances(evaluated):
    found = sentences.collect(evaluated, most=5)
    assert found["all"] == 12
    assert [row["number"] for row in found["sentences"]] == [1, 3, 5, 8, 10]
    assert [row["source"] for row in found["sentences"]] == [SOURCES[n] for n in (0, 2, 4, 7, 9)]
