"""D where the learner does badly: the quantile, and the loss of the positions above it alone."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.chunked import position_nll, transfer_loss
from ka_fairseq.loss.divergences import BACKWARD_KL, JSD_MIXTURE
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.hard_positions import HardPositions, quantile
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection
from tests.support import projection, whole_logits

N, V = 11, 15


def outputs():
    learner, teacher = projection(7, N, 4, V), projection(8, N, 5, V)
    return learner, TeacherOutput([teacher]), torch.arange(N) % V


@given(st.lists(st.floats(0, 50), min_size=1, max_size=40), st.floats(0, 0.999))
def test_at_or_above_the_quantile_lies_its_share(values, share):
    values = torch.tensor(values, dtype=torch.float64)
    threshold = quantile(values, share)
    assert threshold in values
    below = values.lt(threshold).sum().item()
    assert below <= math.ceil(share * (len(values) - 1)) <= below + values.eq(threshold).sum()


def test_the_quantile_by_hand():
    values = torch.tensor([3.0, 1, 2, 4])
    assert [quantile(values, share).item() for share in (0, 0.3, 0.5, 0.9)] == [1, 2, 3, 4]


@pytest.mark.parametrize("rows_per_chunk", [0, 3])
@pytest.mark.parametrize("divergence", [BACKWARD_KL, JSD_MIXTURE.restricted(4, "generalized")])
def test_hard_positions_have_d_and_the_others_the_nll_alone(divergence, rows_per_chunk):
    """Against the loss of each position on its own."""
    learner, teacher, targets = outputs()
    objective = Objective(divergence, 0.3, 0.1, temperature=2.0)
    hard = HardPositions(0.5)
    found = transfer_loss(learner, teacher, targets, objective, rows_per_chunk, hard=hard)
    logits = whole_logits(learner)
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none").detach()
    assert hard.count == hard.nll.ge(nll.sort().values[5]).sum() == 6
    torch.testing.assert_close(hard.nll, nll)
    expected = transfer = 0.0
    for row in range(len(targets)):
        one = Projection(learner.hidden[row : row + 1], learner.weight, learner.bias)
        (of_teacher,) = teacher.members
        other = Projection(of_teacher.hidden[row : row + 1], of_teacher.weight, of_teacher.bias)
        is_hard = bool(nll[row] >= nll.sort().values[5])
        weights = Objective(divergence, 0.3 * is_hard, 0.1, temperature=2.0, nll_weight=0.7)
        alone = transfer_loss(one, TeacherOutput([other]), targets[row : row + 1], weights)
        expected, transfer = expected + alone.loss, transfer + is_hard * alone.transfer_loss
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.transfer_loss, transfer)
    for one, other in zip(
        torch.autograd.grad(found.loss, learner.inputs),
        torch.autograd.grad(expected, learner.inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_quantile_of_zero_is_all_of_them_to_the_last_bit():
    learner, teacher, targets = outputs()
    objective = Objective(BACKWARD_KL, 0.3, 0.1)
    plain = transfer_loss(learner, teacher, targets, objective)
    chosen = transfer_loss(learner, teacher, targets, objective, hard=HardPositions(0.0))
    assert all(torch.equal(one, other) for one, other in zip(plain, chosen, strict=True))
    for one, other in zip(
        torch.autograd.grad(plain.loss, learner.inputs),
        torch.autograd.grad(chosen.loss, learner.inputs),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_a_window_spares_the_search(monkeypatch):
    """With NLLs from before, none is computed twice; with none, all positions are hard."""
    learner, teacher, targets = outputs()
    monkeypatch.setattr("ka_fairseq.loss.chunked.position_nll", pytest.fail)
    for window, expected in ((torch.empty(0), 11), (torch.tensor([1.0, 1e9]), 0)):
        hard = HardPositions(0.5, window)
        found = transfer_loss(learner, teacher, targets, Objective(BACKWARD_KL, 0.3), hard=hard)
        assert hard.count == expected and bool(found.transfer_loss) == bool(expected)


def test_no_position():
    learner, teacher, targets = outputs()
    empty = Projection(learner.hidden[:0], learner.weight, learner.bias)
    hard = HardPositions(0.5)
    found = transfer_loss(empty, teacher, targets[:0], Objective(BACKWARD_KL, 0.3), hard=hard)
    assert found.loss == 0 and hard.count == 0
    assert position_nll(empty.prepare(), targets[:0], 4).shape == (0,)
