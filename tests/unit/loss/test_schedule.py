"""A weight over the updates: by hand, and between its ends whatever the update."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.schedule import SHAPES, Schedule


def test_by_hand():
    assert [Schedule("linear", 0, 1, 4).at(n) for n in range(6)] == [0, 0.25, 0.5, 0.75, 1, 1]
    cosine = [Schedule("cosine", 1, 0, 3).at(n) for n in range(4)]
    assert cosine == pytest.approx([1, 0.75, 0.25, 0])
    assert {Schedule("constant", 0.3, 1, 3).at(n) for n in (0, 2, 9, None)} == {0.3}
    assert Schedule("linear", 0, 0.7, 4).at(None) == 0.7


@given(
    st.sampled_from(list(SHAPES)), st.floats(0, 1), st.floats(0, 1), st.integers(1, 1000), st.data()
)
def test_from_one_end_to_the_other_and_no_further(shape, start, end, updates, data):
    schedule = Schedule(shape, start, end, updates)
    values = [schedule.at(update) for update in sorted(data.draw(st.sets(st.integers(0, 2000))))]
    assert all(min(start, end) - 1e-12 <= value <= max(start, end) + 1e-12 for value in values)
    rising = sorted(values)
    assert values == (rising if start <= end else rising[::-1])
    assert schedule.at(0) == start
    assert schedule.at(updates) == schedule.at(None) == (start if shape == "constant" else end)
