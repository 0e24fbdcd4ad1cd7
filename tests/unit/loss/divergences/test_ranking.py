"""TIE-KD's ranking loss against a float64 computation by loops, and what always holds of it."""

import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import BACKWARD_KL, FORWARD_KL, divergence_named
from ka_fairseq.loss.divergences.ranking import WithRanking, check_ranking_k, ranking_term
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Logits

V = 30


def by_loops(learner, teacher, k):
    """The definition, from logits: a row and a pair of tokens at a time; differentiable."""
    total = learner.new_zeros(())
    for p, q in zip(learner.softmax(-1), teacher.softmax(-1), strict=True):
        t = sorted(range(len(q)), key=lambda token: -q[token].item())[:k]
        s = sorted(range(len(p)), key=lambda token: -p[token].item())[:k]
        for token in t:
            total = total + max(p[token] - p[t[0]], 0 * p[token])
        for i in t:
            for j in s:
                if q[i].item() > q[j].item():
                    total = total + max(p[j] - p[i], 0 * p[i])
    return total


def logits(seed, rows=6, scale=2.0, vocabulary=V):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(rows, vocabulary, generator=generator, dtype=torch.float64)


def term(learner, teacher, k):
    return ranking_term(Distribution.of_logits(learner), Distribution.of_logits(teacher), k)


def gradient_of_logits(learner, teacher, k):
    """As the loss has it: slope(y) − p(y)·Σ slope."""
    made = term(learner, teacher, k)
    gradient = -learner.softmax(-1) * made.slope_sum.unsqueeze(-1)
    made.add_to(gradient, 1.0)
    return gradient


@pytest.mark.parametrize("scale", [0.1, 2.0, 8.0])
@pytest.mark.parametrize("k", [1, 2, 5])
def test_value_and_gradient_are_those_of_the_definition(k, scale):
    learner, teacher = logits(1, scale=scale).requires_grad_(), logits(2, scale=scale)
    expected = by_loops(learner, teacher, k)
    (gradient,) = torch.autograd.grad(expected, learner)
    assert expected > 0
    learner = learner.detach()
    assert term(learner, teacher, k).value.sum().item() == pytest.approx(expected.item(), rel=1e-10)
    torch.testing.assert_close(
        gradient_of_logits(learner, teacher, k), gradient, rtol=1e-10, atol=1e-14
    )


def test_a_row_by_hand():
    """q prefers tokens 0, 1, 2; p prefers 3, 1, 0."""
    q = torch.tensor([[0.5, 0.3, 0.15, 0.05]], dtype=torch.float64)
    p = torch.tensor([[0.1, 0.3, 0.05, 0.55]], dtype=torch.float64)
    # k = 2: t = 0, 1 and s = 3, 1. A: p(1) − p(0) = .2. B: 0 before 3 (.45), 0 before 1 (.2),
    # 1 before 3 (.25); that 1 is before itself is no comparison.
    value = ranking_term(Distribution(p.log()), Distribution(q.log()), 2).value
    assert value.item() == pytest.approx(0.2 + 0.45 + 0.2 + 0.25)


@pytest.mark.parametrize("base", [FORWARD_KL, BACKWARD_KL])
@pytest.mark.parametrize("chunk", [1, 4, 100])
def test_in_chunks_it_is_the_divergence_and_the_ranking_loss(base, chunk):
    learner, teacher = logits(1, rows=9).requires_grad_(), logits(2, rows=9)
    targets = torch.arange(9)
    objective = Objective(WithRanking(base, 5), 0.3, label_smoothing=0.1)
    predictions = torch.empty_like(targets)
    result = transfer_loss(
        Logits(learner), TeacherOutput([Logits(teacher)]), targets, objective, chunk, "eager",
        predictions,
    )  # fmt: skip
    alone = transfer_loss(
        Logits(learner), TeacherOutput([Logits(teacher)]), targets,
        Objective(base, 0.3, label_smoothing=0.1), chunk,
    )  # fmt: skip
    ranking = by_loops(learner, teacher, 5)
    expected = alone.loss + 0.3 * ranking
    torch.testing.assert_close(result.loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(result.transfer_loss, alone.transfer_loss + ranking.detach())
    ours, theirs = (torch.autograd.grad(loss, learner)[0] for loss in (result.loss, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    assert torch.equal(predictions, learner.argmax(-1))


def test_predictions_of_a_wide_vocabulary():
    """Where the best of a row are sought in groups."""
    learner = logits(3, rows=5, vocabulary=1000).requires_grad_()
    predictions = torch.empty(5, dtype=torch.int64)
    transfer_loss(
        Logits(learner), TeacherOutput([Logits(logits(4, 5, vocabulary=1000))]),
        torch.zeros(5, dtype=torch.int64), Objective(FORWARD_KL, 0.5), 2, predictions=predictions,
    )  # fmt: skip
    assert torch.equal(predictions, learner.argmax(-1))


rows = st.lists(
    st.one_of(st.floats(-50, 50), st.sampled_from([0.0, 1e4, -1e4])), min_size=9, max_size=9
)


@given(rows, rows, st.integers(1, 3))
def test_whatever_the_rows(learner, teacher, k):
    """Never negative, at most k + k²; no gradient that a softmax would not see; 0 where p = q."""
    learner, teacher = (torch.tensor([row], dtype=torch.float64) for row in (learner, teacher))
    value, gradient = term(learner, teacher, k).value, gradient_of_logits(learner, teacher, k)
    assert 0 <= value <= k + k * k
    assert torch.isfinite(gradient).all() and gradient.sum().abs() < 1e-12
    assert term(teacher, teacher, k).value == 0


def test_k_is_bounded_by_the_memory_of_a_block():
    check_ranking_k(5, 25)
    for k, vocabulary in ((0, 100), (6, 25), (11, 100)):
        most = math.isqrt(vocabulary)
        with pytest.raises(ValueError, match=re.escape(f"between 1 and {most} ")):
            check_ranking_k(k, vocabulary)


def test_top_k_restricts_the_divergence_alone():
    whole = WithRanking(divergence_named("forward_kl"), 3)
    assert whole.restricted(4, "tail").divergence == FORWARD_KL.restricted(4, "tail")
    assert whole.restricted(4, "tail").k == 3 and whole.needs_whole_teacher(V)
