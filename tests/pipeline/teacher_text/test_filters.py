from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline.teacher_text import filters
from pipeline.teacher_text.recipe import Filters

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
    assert filters.fault((source, target), found) == reason
    if target:
        assert filters.fault((source, target), OFF) is None


@given(st.lists(st.sampled_from("ab"), max_size=30))
def test_repeats_are_those_of_the_most_frequent_run(subwords):
    runs = [tuple(subwords[n : n + 4]) for n in range(len(subwords) - 3)]
    assert filters.repeats(subwords) == max([runs.count(run) for run in runs], default=1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"))))
def test_what_is_dropped_is_counted(pairs):
    dropped = Counter()
    kept = list(filters.kept(pairs, Filters(), dropped))
    assert kept == list(dict.fromkeys(pairs))
    assert dropped["duplicates"] == len(pairs) - len(kept)
    assert list(filters.kept(pairs, OFF, Counter())) == pairs
