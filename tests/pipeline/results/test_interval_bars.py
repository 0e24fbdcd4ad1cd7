from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pipeline.results import interval_bars, tables
from pipeline.results.tables import Difference


def row(model, *cells):
    return {"model": model, **{str(place): cell for place, cell in enumerate(cells)}}


@pytest.fixture
def table():
    return [
        row("teacher", Difference(14.2, 13.0, 15.0)),
        row("learner", Difference(-0.5, -1.0, 0.0), "0.1"),
        row("kd", tables.NONE, Difference(1.0, 0.5, 3.0)),
    ]


def test_all_bars_of_a_table_have_the_same_ends(table):
    assert interval_bars.ends(table) == (-1.0, 15.0)


def test_a_teacher_does_not_squeeze_its_learners(table):
    assert interval_bars.ends(table, apart={"teacher"}) == (-1.0, 3.0)
    assert interval_bars.ends(table[:1], apart={"teacher"}) == (0.0, 15.0)


def test_where_there_is_nothing_to_draw_there_are_ends_all_the_same():
    assert interval_bars.ends([row("kd", tables.NONE)]) == (-1.0, 1.0)
    assert interval_bars.ends([row("kd", Difference(0.0, 0.0, 0.0))]) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("difference", "places", "side", "cut"),
    [
        (Difference(1.0, 0.5, 3.0), (25, 37.5, 100, 50), "above", ()),
        (Difference(-0.5, -1.0, -0.1), (25, 0, 22.5, 12.5), "below", ()),
        (Difference(-0.5, -1.0, 0.0), (25, 0, 25, 12.5), "both", ()),
        (Difference(14.2, 2.0, 15.0), (25, 75, 100, None), "above", ("high",)),
        (Difference(0.0, -9.0, 9.0), (25, 0, 100, 25), "both", ("low", "high")),
    ],
)
def test_a_bar_has_its_places(difference, places, side, cut):
    """Of a bar from -1 to 3, by hand."""
    found = interval_bars.bar(difference, (-1.0, 3.0))
    assert (found.zero, found.low, found.high) == pytest.approx(places[:3])
    assert found.value == (None if places[3] is None else pytest.approx(places[3]))
    assert (found.side, found.cut) == (side, cut)


@example([(0.0, 200.0, -127.83243686598988)])
@given(st.lists(st.tuples(*[st.floats(-200, 200)] * 3), min_size=1, max_size=5))
def test_nothing_is_drawn_beyond_the_ends(numbers):
    cells = [Difference(value, min(ends), max(ends)) for value, *ends in numbers]
    between = interval_bars.ends([row("kd", *cells)])
    for cell in cells:
        found = interval_bars.bar(cell, between)
        assert 0 <= found.low <= found.high <= interval_bars.LENGTH
        assert 0 <= found.zero <= interval_bars.LENGTH
        assert found.cut == ()


def test_a_difference_is_the_text_that_it_was():
    found = tables.difference({"mean": -0.04, "low": -0.26, "high": 1.1})
    assert found == "+0.0 [-0.3, 1.1]" and isinstance(found, str)
    assert (found.value, found.low, found.high) == (-0.04, -0.26, 1.1)
    assert tables.markdown([{"model": "KA", "vs KD": found}]).endswith("| +0.0 [-0.3, 1.1] |")
