"""Dominated points and the frontier against a computation that looks at every two points."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pipeline.results import frontier

# Few values, so that there are ties in one of both, and equal points.
points = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12)
checked = settings(derandomize=True, deadline=None)


def better(one, other):
    """At least as good, at least as fast, and not the same."""
    return one[0] >= other[0] and one[1] >= other[1] and one != other


@checked
@given(points)
def test_a_point_is_dominated_where_another_is_as_good_and_as_fast(found):
    quality, speed = np.array(found).T
    expected = [any(better(one, other) for one in found) for other in found]
    assert frontier.dominated(quality, speed).tolist() == expected
    pairs = frontier.dominates(quality, speed)
    assert pairs.tolist() == [[better(one, other) for other in found] for one in found]


@checked
@given(points)
def test_the_dominator_is_on_the_frontier_and_the_best_there(found):
    quality, speed = np.array(found).T
    for place, point in enumerate(found):
        others = [one for one in found if better(one, point)]
        dominator = frontier.dominator(quality, speed, place)
        assert (dominator is None) == (not others)
        if dominator is not None:
            assert found[dominator] == max(others)
            assert not any(better(one, found[dominator]) for one in found)


@checked
@given(points, st.integers(0, 6))
def test_the_fastest_of_those_that_are_good_enough(found, least):
    quality, speed = np.array(found).T
    enough = [point for point in found if point[0] >= least]
    place = frontier.fastest(quality, speed, least)
    assert (place is None) == (not enough)
    if place is not None:
        assert found[place][::-1] == max(point[::-1] for point in enough)
