"""Selections against sacrebleu's sentence chrF, which computes it on its own."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pipeline.teacher_text import selection
from pipeline.teacher_text.shards import Candidate
from sacrebleu import sentence_bleu
from sacrebleu.metrics import CHRF

WORDS = st.lists(st.sampled_from(["the", "text", "is", "not", "changed", "here"]), min_size=3)
SENTENCES = WORDS.map(" ".join)
N_BEST = st.lists(SENTENCES, min_size=1, max_size=4)


def candidates(texts):
    return [Candidate(-float(place), text) for place, text in enumerate(texts)]


def chrf(hypothesis, reference):
    return CHRF().sentence_score(hypothesis, [reference]).score


def assert_highest(chosen, texts, utility):
    utilities = {text: utility(text) for text in texts}
    assert utilities[chosen] >= max(utilities.values()) - 1e-3


@given(st.lists(st.tuples(N_BEST, SENTENCES), min_size=1, max_size=3))
def test_nearest_to_the_reference_and_to_the_others(rows):
    found = [candidates(texts) for texts, _ in rows]
    references = [reference for _, reference in rows]
    nearest = selection.nearest_to_reference(found, references)
    middle = selection.minimum_bayes_risk(found, references)
    for n, (texts, reference) in enumerate(rows):
        assert_highest(nearest[n], texts, lambda text, reference=reference: chrf(text, reference))
        assert_highest(
            middle[n], texts, lambda text, texts=texts: sum(chrf(text, other) for other in texts)
        )


def test_each_selection_takes_its_own():
    texts = [
        "Text stays.",
        "The text is not changed.",
        "The text is not changed!",
        "It is kept now.",
    ]
    reference = "It is kept as it is now."
    chosen = {
        name: choose([candidates(texts), []], [reference, "x"])
        for name, choose in selection.SELECTIONS.items()
    }
    assert chosen == {
        "best": [texts[0], None],
        "reference": [texts[3], None],
        "mbr": [texts[1], None],
        "mbr_samples": [texts[1], None],
    }


@given(st.lists(st.tuples(N_BEST, SENTENCES), min_size=1, max_size=3))
def test_nearest_to_the_reference_by_bleu(rows):
    choose = selection.selection("reference", "bleu")
    found = [candidates(texts) for texts, _ in rows]
    chosen = choose([*found, []], [*(reference for _, reference in rows), "x"])
    assert chosen.pop() is None
    for choice, (texts, reference) in zip(chosen, rows, strict=True):
        assert_highest(
            choice,
            texts,
            lambda text, reference=reference: sentence_bleu(text, [reference]).score,
        )


def test_nearness_is_the_references_alone():
    assert selection.selection("reference", "chrf") is selection.nearest_to_reference
    assert selection.selection("mbr", "bleu") is selection.minimum_bayes_risk
    found = [candidates(["Select", "Select a range."])]
    assert selection.nearest_by_bleu(found, None) == ["Select"]


def test_of_equal_ones_the_teacher_decides():
    texts = ["a b c d e f", "a b c d e f"]
    assert selection.minimum_bayes_risk([candidates(texts)], None) == [texts[0]]


def test_text_without_references_gets_the_best():
    found = [candidates(["Select", "Select a range."])]
    assert selection.nearest_to_reference(found, None) == ["Select"]
    assert selection.minimum_bayes_risk([[]], None) == [None]
