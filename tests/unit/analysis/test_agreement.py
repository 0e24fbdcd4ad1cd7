"""Agreement, calibration and KL against float64 and cases by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.analysis.agreement import (
    TEACHER,
    agreement,
    bin_sums,
    expected_calibration_error,
)
from ka_fairseq.errors import UserError


def test_calibration_error_by_hand():
    # Two bins. (0, .5]: .2 wrong, .4 right → |.5 − .3|·2/5. (.5, 1]: .6, .9 right, .9 wrong →
    # |2/3 − .8|·3/5.
    confidence = np.array([0.2, 0.4, 0.6, 0.9, 0.9])
    correct = np.array([False, True, True, True, False])
    sums = bin_sums(confidence, correct, 2)
    assert sums == pytest.approx(np.array([[2, 0.6, 1], [3, 2.4, 2]]))
    assert expected_calibration_error(sums) == pytest.approx(0.08 + 0.08)


def test_bins_are_closed_above():
    confidence = np.array([0.0, 0.25, 0.2500001, 0.5, 1.0])
    assert bin_sums(confidence, np.ones(5), 4)[:, 0].tolist() == [2, 2, 0, 1]


def test_perfect_and_hopeless():
    sure = np.ones(10)
    assert expected_calibration_error(bin_sums(sure, np.ones(10))) == 0
    assert expected_calibration_error(bin_sums(sure, np.zeros(10))) == 1


predictions = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30)


@given(predictions, st.integers(1, 20), st.data())
def test_batches_add_up(pairs, bins, data):
    confidence, correct = (np.array(column) for column in zip(*pairs, strict=True))
    cut = data.draw(st.integers(0, len(pairs)))
    whole = bin_sums(confidence, correct, bins)
    parts = bin_sums(confidence[:cut], correct[:cut], bins) + bin_sums(
        confidence[cut:], correct[cut:], bins
    )
    assert whole == pytest.approx(parts)
    error = 0.0
    for index in range(bins):
        low, high = index / bins, (index + 1) / bins
        inside = (confidence > low) & (confidence <= high)
        if index == 0:
            inside |= confidence == 0
        if inside.any():
            gap = abs(correct[inside].mean() - confidence[inside].mean())
            error += inside.mean() * gap
    # A bound such as 3 · (1/15) differs from 3/15 in the last digit.
    if not any(np.isclose(value * bins, np.round(value * bins)) for value in confidence):
        assert expected_calibration_error(whole) == pytest.approx(error)


def kl(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (np.exp(a) * (a - b)).sum(-1) / np.log(2)


@pytest.fixture(scope="module")
def learners(trained):
    return {run.name: run.last for run in trained.runs}


@pytest.fixture(scope="module")
def tables(corpus, trained, learners):
    return agreement(corpus, learners, str(trained.teacher))


def test_summary_is_that_of_the_plain_formulas(tables, corpus, trained, learners, all_lprobs):
    q = all_lprobs(trained.teacher)
    targets = np.concatenate(
        [corpus.dataset[index]["target"].numpy() for index in corpus.all_sentences()]
    )
    assert list(tables.summary.run) == [TEACHER, "KD", "KA"]
    for row in tables.summary.itertuples():
        p = all_lprobs(learners.get(row.run, trained.teacher))
        best, confidence = p.argmax(-1), np.exp(p.max(-1))
        correct = best == targets
        index = np.ceil(confidence * 15).astype(int)
        error = sum(
            (index == b).mean() * abs(correct[index == b].mean() - confidence[index == b].mean())
            for b in set(index)
        )
        assert row.positions == len(targets)
        assert row.teacher_agreement == pytest.approx((best == q.argmax(-1)).mean(), abs=2e-3)
        assert row.accuracy == pytest.approx(correct.mean(), abs=2e-3)
        assert row.confidence == pytest.approx(confidence.mean(), rel=1e-5)
        assert row.ece == pytest.approx(error, abs=2e-3)
        assert row.forward_kl_bits == pytest.approx(kl(q, p).mean(), rel=1e-4, abs=1e-6)
        assert row.backward_kl_bits == pytest.approx(kl(p, q).mean(), rel=1e-4, abs=1e-6)


def test_teacher_agrees_with_itself(tables):
    teacher = tables.summary.set_index("run").loc[TEACHER]
    assert teacher.teacher_agreement == 1
    assert teacher.forward_kl_bits == teacher.backward_kl_bits == 0


def test_by_position(tables, corpus, trained, learners, plain_lprobs):
    rows = tables.by_position[tables.by_position.run.eq("KA")].set_index("position")
    sizes = corpus.dataset.tgt_sizes[corpus.all_sentences()]
    assert list(rows.positions) == [(sizes >= place).sum() for place in rows.index]
    third = [
        (plain_lprobs(trained.teacher, index)[2], plain_lprobs(learners["KA"], index)[2])
        for index in corpus.all_sentences()
        if corpus.dataset.tgt_sizes[index] >= 3
    ]
    q, p = map(np.array, zip(*third, strict=True))
    assert rows.forward_kl_bits[3] == pytest.approx(kl(q, p).mean(), rel=1e-4)
    assert rows.backward_kl_bits[3] == pytest.approx(kl(p, q).mean(), rel=1e-4)


def test_tables_fit_together(tables):
    summary = tables.summary.set_index("run")
    for name, bins in tables.calibration.groupby("run"):
        assert bins.positions.sum() == summary.positions[name]
        gaps = (bins.positions * (bins.accuracy - bins.confidence).abs()).sum()
        assert gaps / bins.positions.sum() == pytest.approx(summary.ece[name])


def test_batch_size_does_not_matter(tables, trained, learners):
    other = agreement(trained.corpus(max_tokens=1), learners, str(trained.teacher))
    for name, value in tables.summary.set_index("run").iterrows():
        expected = other.summary.set_index("run").loc[name]
        assert value.to_numpy(float) == pytest.approx(expected.to_numpy(float), abs=1e-3, rel=1e-4)


def test_says_what_is_wrong(corpus, trained):
    with pytest.raises(UserError, match="--bins"):
        agreement(corpus, {}, str(trained.teacher), bins=0)
    with pytest.raises(UserError, match="teacher's"):
        agreement(corpus, {TEACHER: trained.start}, str(trained.teacher))
