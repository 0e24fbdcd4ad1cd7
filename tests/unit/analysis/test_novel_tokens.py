"""Counting tokens that were not there before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.analysis.novel_tokens import NOTHING, count_novel, novel_tokens, top_k_sets
from ka_fairseq.errors import UserError


def count_all(epochs) -> list[int]:
    counts, seen = [], NOTHING
    for best in epochs:
        count, seen = count_novel(np.array(best, dtype=np.int32), seen)
        counts.append(count)
    return counts


def test_by_hand():
    epochs = [
        [[1, 2], [1, 2]],  # all four are new
        [[2, 3], [1, 2]],  # 3 at the first position
        [[1, 3], [3, 4]],  # 1 and 3 were there at the first; 3 and 4 are new at the second
        [[5, 2], [5, 1]],  # 5, at both
        [[5, 2], [5, 1]],
    ]
    assert count_all(epochs) == [4, 1, 2, 2, 0]


@st.composite
def sets_by_epoch(draw):
    positions, k = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    tokens = st.lists(st.integers(0, 6), min_size=k, max_size=k, unique=True)
    epoch = st.lists(tokens, min_size=positions, max_size=positions)
    return draw(st.lists(epoch, min_size=1, max_size=5))


@given(sets_by_epoch())
def test_is_the_formula_of_the_paper(epochs):
    expected = [
        sum(
            all(token not in earlier[position] for earlier in epochs[:i])
            for position, tokens in enumerate(best)
            for token in tokens
        )
        for i, best in enumerate(epochs)
    ]
    assert count_all(epochs) == expected


def test_positions_do_not_run_into_each_other():
    largest = 2**31 - 1
    assert count_all([[[largest], [0]], [[0], [largest]]]) == [2, 2]


def test_sets_and_mass_are_those_of_the_plain_softmax(corpus, trained, all_lprobs):
    sentences = corpus.sample(20, seed=1)
    best, mass = top_k_sets(corpus, corpus.load(trained.start), sentences, 4)
    lprobs = all_lprobs(trained.start, sentences)
    expected = np.argsort(-lprobs, axis=-1, kind="stable")[:, :4]
    assert best.dtype == np.int32
    assert np.mean(np.sort(best) == np.sort(expected)) > 0.995  # near ties may fall either way
    assert mass == pytest.approx(np.sort(np.exp(lprobs))[:, -4:].sum(-1).mean(), rel=1e-5)


def test_frame(trained):
    corpus = trained.corpus("train")
    frame = novel_tokens(corpus, trained.runs, sentences=30, top_k=5, seed=3)
    assert list(frame.run) == ["KD"] * 4 + ["KA"] * 4
    assert list(frame.epoch) == [0, 1, 2, 3] * 2
    positions = corpus.count_positions(corpus.sample(30, 3))
    assert set(frame.positions) == {positions}
    assert list(frame.novel[frame.epoch.eq(0)]) == [5 * positions] * 2
    assert frame.novel_per_position.to_numpy() == pytest.approx(frame.novel / positions)
    assert frame.top_k_mass.between(0, 1).all()
    assert (frame.novel[frame.epoch.gt(0)] > 0).all()


def test_batch_size_does_not_matter(trained):
    frames = [
        novel_tokens(trained.corpus("train", max_tokens=size), trained.runs[:1], 40, 8)
        for size in (1, 500, 100_000)
    ]
    for frame in frames[1:]:
        assert list(frame.novel) == pytest.approx(list(frames[0].novel), abs=1)
        assert frame.top_k_mass.to_numpy() == pytest.approx(frames[0].top_k_mass, rel=1e-6)


def test_says_what_is_wrong(corpus, trained):
    with pytest.raises(UserError, match="--top-k"):
        novel_tokens(corpus, trained.runs, top_k=10**6)
    with pytest.raises(UserError, match="--sentences"):
        novel_tokens(corpus, trained.runs, sentences=0)
