from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.distill import filters
from ka_fairseq.distill.filters import Filters

LOOP = "the text " * 5
OFF = Filters(max_ratio=None, max_repeats=None, drop_copies=False, drop_duplicates=False)


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("a b c", "x y z", None),
        ("a b c", "a b c", "copies of the source"),
        ("a b c", "", "empty translations"),
        ("a b c", "x " * 11, None),  # 12 to 4, with their ends
        ("a b c", "x y z u v w r s t p q o", "lengths too different"),
        ("a b c d e f g h i j", LOOP, "repeated n-grams"),
        (LOOP, f"{LOOP} is", None),  # as often as in the source
    ],
)
def test_each_filter_has_its_reason(source, target, reason):
    found = Filters(max_repeats=None) if target.startswith("x x") else Filters()
    sides = source.split(), target.split()
    assert filters.fault(*sides, found) == reason
    if target:
        assert filters.fault(*sides, OFF) is None


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_repeats_are_those_of_the_most_frequent_run(subwords):
    runs = [tuple(subwords[n : n + 4]) for n in range(len(subwords) - 3)]
    assert filters.repeats(subwords) == max([runs.count(run) for run in runs], default=1)
