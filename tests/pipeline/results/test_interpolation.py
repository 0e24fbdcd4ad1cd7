"""Curves between their points, and what one is worth against another, by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from pipeline.results import interpolation, worth

# BLEU and sentences a second. Half the speed is worth 2 BLEU, and KD 1 BLEU at any speed.
CONTROL = [(30.0, 400.0), (32.0, 200.0), (34.0, 100.0), (33.0, 50.0)]  # the last one is dominated
KD = [(31.0, 400.0), (33.0, 200.0), (35.0, 100.0)]


def curve(points):
    return interpolation.curve(*np.array(points).T)


def test_a_curve_goes_through_what_its_own_points_do_not_dominate():
    logs, quality = curve(CONTROL)
    assert quality.tolist() == [34, 32, 30]
    assert np.exp(logs).tolist() == pytest.approx([100, 200, 400])
    assert curve([(30, 100), (30, 100)])[1].tolist() == [30]


@pytest.mark.parametrize(
    ("one", "other", "bleu", "times"),
    [
        (KD, CONTROL, 1.0, math.sqrt(2)),  # half a halving
        (CONTROL, KD, -1.0, 1 / math.sqrt(2)),
        (KD, KD, 0.0, 1.0),
        # Both cover 100 to 200: there 2 BLEU above a point at 100, and 1 at 200.
        ([(34, 100), (33, 400)], [(32, 100), (32.5, 50), (31.5, 200)], 2.0, None),
        # A single speed in common.
        ([(34, 100), (33, 200)], [(32, 100), (35, 50)], 2.0, 2**0.0),
        ([(34, 100)], [(30, 200)], None, None),
    ],
)
def test_what_a_curve_is_worth(one, other, bleu, times):
    found = interpolation.worth_at_equal_speed(curve(one), curve(other))
    assert found == (None if bleu is None else pytest.approx(bleu))
    if times is not None and len(one) > 2:
        found = interpolation.worth_at_equal_quality(curve(one), curve(other))
        assert found == pytest.approx(times)


def test_the_mean_is_over_what_both_cover_and_counts_each_part_by_its_length():
    """f rises from 0 to 4 over [0, 4]; g is 0 until 2 and 6 at 3: f is 2 on [1, 3], and g 1.5."""
    one = np.array([0.0, 4.0]), np.array([0.0, 4.0])
    other = np.array([1.0, 2.0, 3.0]), np.array([0.0, 0.0, 6.0])
    assert interpolation.mean_gap(one, other) == pytest.approx(2 - 1.5)
    assert interpolation.mean_gap(other, one) == pytest.approx(1.5 - 2)


def scores(spread=0.0, seeds=(0.0,)):
    """Both curves with BLEU that other sentences change by up to `spread`, and seeds by these."""
    drawn = np.linspace(-spread, spread, 201)
    bleu = {f"{name} {n}": q for name, p in METHODS.items() for n, (q, _) in enumerate(p)}
    by_seed, of_drawn = {}, {}
    for key, quality in bleu.items():
        own = np.array(seeds if key.startswith("kd") else [0.0] * len(seeds))
        by_seed[key] = quality + own
        of_drawn[key] = quality + own[:, None] + (drawn if key.startswith("kd") else 0 * drawn)
    return worth.Scores(by_seed, of_drawn)


METHODS = {"control": CONTROL, "kd": KD}
POINTS = {m: [(f"{m} {n}", rate) for n, (_, rate) in enumerate(p)] for m, p in METHODS.items()}


def found(function, **how):
    return function(POINTS["kd"], POINTS["control"], scores(**how))


def test_a_worth_has_the_interval_of_the_sentences_and_of_the_seeds():
    at_speed = found(worth.at_equal_speed, spread=0.5)
    assert at_speed.value == pytest.approx(1)
    assert (at_speed.interval.low, at_speed.interval.high) == pytest.approx((0.525, 1.475))
    at_quality = found(worth.at_equal_quality, spread=0.5)
    # A BLEU is worth a factor of the square root of two.
    ends = [math.sqrt(2) ** end for end in (0.525, 1.475)]
    assert at_quality.value == pytest.approx(math.sqrt(2))
    assert [at_quality.interval.low, at_quality.interval.high] == pytest.approx(ends)
    of_seeds = found(worth.at_equal_speed, spread=0.5, seeds=(-0.3, 0.0, 0.3)).interval
    assert of_seeds.width > at_speed.interval.width + 0.3


def test_what_is_not_shown_is_said_to_be_so():
    said = worth.sentence("KD", "control", found(worth.at_equal_speed, spread=0.5), None)
    assert said == (
        "Worth of KD against control: at equal speed +1.0 BLEU [0.5, 1.5]; at equal BLEU not "
        "shown (the curves do not overlap)."
    )
    both = worth.at_equal_speed, worth.at_equal_quality
    wide = [found(function, spread=2) for function in both]
    said = worth.sentence("KD", "control", *wide)
    assert "at equal speed not shown (+1.0 BLEU [-0.9, 2.9]);" in said
    assert "at equal BLEU not shown (1.41 times the speed [0.73, 2.7" in said


def test_curves_that_share_nothing_have_no_worth():
    one, other = [("a", 100.0)], [("b", 200.0)]
    alone = {"a": np.array([30.0]), "b": np.array([20.0])}
    some = worth.Scores(alone, {key: np.full((1, 5), value) for key, value in alone.items()})
    assert worth.at_equal_speed(one, other, some) is None
    assert worth.at_equal_quality(one, other, some) is None
