"""Choosers against sacrebleu's sentence scores, which it computes on its own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import sentence_bleu
from sacrebleu.metrics import CHRF

from ka_fairseq.distill import choosers
from ka_fairseq.distill.choosers import Sentence, chooser_named, register_chooser
from ka_fairseq.distill.nearness import bleu, chrf
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.errors import UserError

WORDS = st.lists(st.sampled_from(["the", "text", "is", "not", "changed", "here"]), min_size=3)
SENTENCES = WORDS.map(" ".join)
N_BEST = st.lists(SENTENCES, min_size=1, max_size=4)
ROWS = st.lists(st.tuples(N_BEST, SENTENCES), min_size=1, max_size=3)


def sentence(texts, reference=None):
    candidates = [Candidate(-float(place), text) for place, text in enumerate(texts)]
    return Sentence("Der Text", candidates, reference)


def sentence_chrf(hypothesis, reference):
    return CHRF().sentence_score(hypothesis, [reference]).score


def assert_highest(number, texts, utility):
    utilities = [utility(text) for text in texts]
    assert utilities[number] >= max(utilities) - 1e-3


@given(ROWS)
def test_closest_is_nearest_to_the_reference_and_mbr_to_all(rows):
    found = [sentence(*row) for row in rows]
    closest, mbr = (chooser_named(name)(found, chrf) for name in ("closest", "mbr"))
    for n, (texts, reference) in enumerate(rows):
        assert_highest(closest[n], texts, lambda text, to=reference: sentence_chrf(text, to))
        assert_highest(
            mbr[n], texts, lambda text, to=texts: sum(sentence_chrf(text, other) for other in to)
        )


@given(ROWS)
def test_closest_by_bleu(rows):
    chosen = chooser_named("closest")([sentence(*row) for row in rows], bleu)
    for number, (texts, reference) in zip(chosen, rows, strict=True):
        assert_highest(number, texts, lambda text, to=reference: sentence_bleu(text, [to]).score)


def test_each_chooser_takes_its_own():
    texts = [
        "Text stays.",
        "The text is not changed.",
        "The text is not changed!",
        "It is kept now.",
    ]
    found = [sentence(texts, "It is kept as it is now.")]
    chosen = {name: chooser_named(name)(found, chrf) for name in choosers.chooser_names()}
    assert chosen == {"closest": [3], "best": [0], "mbr": [1]}


def test_of_equal_ones_the_teacher_decides():
    assert chooser_named("mbr")([sentence(["a b c d e f"] * 2)], chrf) == [0]


def test_without_a_reference_the_closest_is_the_best():
    texts = ["Select", "Select a range."]
    found = [sentence(texts), sentence(texts, "Select a range.")]
    assert chooser_named("closest")(found, chrf) == [0, 1]


def test_a_chooser_of_ones_own_is_registered(monkeypatch):
    monkeypatch.setattr(choosers, "_CHOOSERS", dict(choosers._CHOOSERS))

    @register_chooser("last")
    def last(sentences, nearness):
        return [len(one.candidates) - 1 for one in sentences]

    assert chooser_named("last")([sentence(["a", "b"])], chrf) == [1]
    with pytest.raises(ValueError, match="a chooser 'last' is registered already"):
        register_chooser("last")(lambda sentences, nearness: [])


def test_an_unknown_chooser_is_one_line_with_those_that_there_are():
    with pytest.raises(UserError, match="--choose bets: choose from closest, best, mbr"):
        chooser_named("bets")
