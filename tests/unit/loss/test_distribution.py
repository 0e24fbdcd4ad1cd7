"""Distributions: log-softmax by another route, and the search for the best tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.distribution import GROUP, LOG_ZERO, Distribution, best_tokens


@pytest.mark.parametrize("scale", [0.1, 3.0, 1e3, 1e4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_softmax_and_its_logarithm(dtype, scale):
    logits = torch.randn(7, 301, generator=torch.Generator().manual_seed(3)).double() * scale
    p = Distribution.of_logits(logits.to(dtype))
    expected = torch.log_softmax(logits.to(dtype).double(), -1).clamp(min=LOG_ZERO)
    epsilon = torch.finfo(dtype).eps
    torch.testing.assert_close(p.lprobs.double(), expected, rtol=8 * epsilon, atol=8 * epsilon)
    torch.testing.assert_close(p.probs.double(), expected.exp(), rtol=1e-3, atol=4 * epsilon)
    assert p.lprobs.dtype == p.probs.dtype == dtype


def test_probability_zero_is_finite_in_its_logarithm():
    p = Distribution.of_logits(torch.tensor([[0.0, -torch.inf, 0.0]]))
    assert p.lprobs[0, 1] == LOG_ZERO and p.probs[0, 1] == 0
    assert p.entropy.item() == pytest.approx(0.6931472)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(2, 9 * 4 * GROUP + 77))
def test_the_best_tokens_are_those_of_a_sort(seed, k, vocabulary):
    generator = torch.Generator().manual_seed(seed)
    # Few different values: ties everywhere.
    values = torch.randint(0, 50, (3, vocabulary), generator=generator).float()
    k = min(k, vocabulary)
    found = best_tokens(values, k)
    assert all(len(set(row)) == k for row in found.tolist())
    expected = values.sort(-1, descending=True).values[:, :k]
    assert torch.equal(values.gather(-1, found).sort(-1, descending=True).values, expected)


def test_the_rest_by_hand():
    p = Distribution(torch.tensor([[0.5, 0.3, 0.2]]).log())
    assert p.log_rest(torch.tensor([[0]])).exp().item() == pytest.approx(0.5)
    assert p.at(torch.tensor([[2, 0]])).exp().tolist()[0] == pytest.approx([0.2, 0.5])
