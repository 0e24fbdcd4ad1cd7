"""Adaptive KL: the head of the teacher's distribution weighs the two KLs, a row at a time."""

import math

import numpy as np
import pytest
import torch

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import BACKWARD_KL, FORWARD_KL, adaptive_kl, values
from ka_fairseq.loss.divergences.adaptive_kl import AdaptiveKL
from tests.support import random_lprobs


def akl_share(p, q, mass):
    """The head's part of the gap between both, one row and one type at a time, by floats."""
    order = sorted(range(len(q)), key=lambda y: -q[y])
    head, held = [order[0]], q[order[0]]
    for y in order[1:]:
        held += q[y]
        if held > mass:
            break
        head.append(y)
    gaps = [abs(x - y) for x, y in zip(p, q, strict=True)]
    return math.fsum(gaps[y] for y in head) / math.fsum(gaps)


@pytest.mark.parametrize("mass", [0.5, 0.05, 0.95])
def test_it_weighs_the_two_kls(mass):
    p, q = random_lprobs()
    rows = zip(p.exp().tolist(), q.exp().tolist(), strict=True)
    share = torch.tensor([akl_share(*row, mass) for row in rows], dtype=torch.float64)
    expected = share * values(FORWARD_KL, p, q) + (1 - share) * values(BACKWARD_KL, p, q)
    torch.testing.assert_close(values(AdaptiveKL(mass), p, q), expected, rtol=1e-9, atol=1e-12)
    single = values(AdaptiveKL(mass), p.float(), q.float())
    torch.testing.assert_close(single, expected.float(), rtol=5e-5, atol=5e-6)


def test_by_hand():
    """The head is type 1 alone, which has half of the gap; both KLs are the same here."""
    p, q = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    assert values(AdaptiveKL(), p, q).item() == pytest.approx(0.25 * math.log(2))


def test_the_weights_of_adaptive_kl_are_no_part_of_its_gradient():
    logits, teacher = random_lprobs(4, seed=3)
    lprobs = logits.requires_grad_().log_softmax(-1)
    (found,) = torch.autograd.grad(values(AdaptiveKL(), lprobs, teacher).sum(), logits)
    rows = zip(lprobs.exp().tolist(), teacher.exp().tolist(), strict=True)
    share = torch.tensor([akl_share(*row, 0.5) for row in rows], dtype=torch.float64)
    lprobs = logits.log_softmax(-1)
    forward, backward = (values(d, lprobs, teacher) for d in (FORWARD_KL, BACKWARD_KL))
    (expected,) = torch.autograd.grad((share * forward + (1 - share) * backward).sum(), logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_a_head_beyond_the_usual_ones_is_found_too(scale, mass, monkeypatch):
    """Flat teachers need more types for their head than are looked at first."""
    p, q = (Distribution(lprobs) for lprobs in random_lprobs(8, 700, scale))
    found = adaptive_kl.head_share(p, q, mass)
    expected = [
        akl_share(*row, mass) for row in zip(p.probs.tolist(), q.probs.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    monkeypatch.setattr(adaptive_kl, "USUAL_HEADS", ())
    torch.testing.assert_close(adaptive_kl.head_share(p, q, mass), found)
