from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline.results.trend import still_rises


def curve(scores):
    return dict(enumerate(scores, start=1))


def saturating(epochs, rate):
    return [25 * (1 - math.exp(-rate * epoch)) for epoch in range(1, epochs + 1)]


@pytest.mark.parametrize(
    ("scores", "per_epoch", "epochs"),
    [
        ([10, 11], 1, 2),
        ([3, 9, 13.0, 13.5, 14.0], 0.5, 3),
        ([13.0, 13.2, 14.0], 0.5, 3),
        ([*range(13), 12.5, 13, 13.5], 0.5, 4),
    ],
)
def test_what_rises(scores, per_epoch, epochs):
    found = still_rises(curve(scores))
    assert found.per_epoch == pytest.approx(per_epoch)
    assert found.epochs == epochs


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [18],
        [18, 18],
        [18, 18, 18, 18],
        [19.4, 19.5],
        [3, 9, 13, 18, 18.6, 18.6, 18.5],
        [20, 18, 15],
        [20.1, 20.5, 20.2, 20.6, 20.1, 20.5],  # no line, but noise
    ],
)
def test_what_does_not_rise(scores):
    assert still_rises(curve(scores)) is None


def test_a_training_cut_short_rises_and_the_whole_one_does_not():
    whole = saturating(60, rate=0.1)
    assert still_rises(curve(whole[:20]))
    assert still_rises(curve(whole)) is None


def test_a_slow_rise_over_many_epochs_is_one():
    assert still_rises(curve(10 + 0.05 * np.arange(100)))


@pytest.mark.parametrize("epochs", [4, 6, 12, 24, 60])
def test_the_noise_of_a_flat_curve_is_seldom_called_a_rise(epochs):
    """Noise as the demo's curves have it at their ends: a standard deviation of 0.2 BLEU."""
    noise = np.random.default_rng(5).normal(20, 0.2, size=(400, epochs))
    assert sum(still_rises(curve(scores)) is not None for scores in noise) < 0.08 * len(noise)


@given(
    st.lists(st.floats(0, 60), min_size=2, max_size=30),
    st.floats(-20, 20),
    st.integers(0, 50),
)
def test_the_level_and_the_first_epochs_number_play_no_part(scores, level, first):
    found = still_rises(curve(scores))
    moved = {first + epoch: score + level for epoch, score in curve(scores).items()}
    other = still_rises(moved)
    if found is None or other is None:  # at the threshold itself rounding may decide
        near = still_rises({epoch: 1.001 * score for epoch, score in moved.items()})
        assert found == other or near is not None
    else:
        assert other.per_epoch == pytest.approx(found.per_epoch, abs=1e-6)
