"""Rows of a batch laid flat: exactly the target positions that are no padding."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.positions import counted_target_rows, select, target_rows

PAD = 1


@given(st.lists(st.integers(0, 6), min_size=1, max_size=5), st.integers(0, 3), st.booleans())
def test_rows_are_what_a_boolean_mask_keeps(lengths, prefix, left):
    longest = max(lengths)
    target = torch.full((len(lengths), longest), PAD)
    for row, length in enumerate(lengths):
        where = slice(longest - length, longest) if left else slice(0, length)
        target[row, where] = torch.arange(10, 10 + length)
    mask = target.ne(PAD)
    mask[:, :prefix] = False
    rows = target_rows(target, PAD, prefix)
    assert torch.equal(select(target, rows), target[mask])
    if not prefix:
        assert torch.equal(counted_target_rows(target, PAD, len(rows)), rows)
    features = torch.randn(len(lengths), longest, 3)
    assert torch.equal(select(features, rows), features[mask])


@pytest.mark.parametrize("count", [0, 2, 4, 7])
def test_a_wrong_count_leaves_nothing_out_silently(count):
    target = torch.tensor([[5, 6, PAD], [7, PAD, PAD]])
    assert counted_target_rows(target, PAD, 3).tolist() == [0, 1, 3]
    with pytest.raises(RuntimeError):
        counted_target_rows(target, PAD, count)


def test_the_gradient_goes_back_to_where_rows_came_from():
    features = torch.randn(2, 3, 4, requires_grad=True)
    select(features, torch.tensor([1, 5])).sum().backward()
    expected = torch.zeros(6, 4)
    expected[[1, 5]] = 1
    assert torch.equal(features.grad.view(6, 4), expected)
