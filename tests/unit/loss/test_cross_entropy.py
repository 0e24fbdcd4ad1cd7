"""The chunked cross-entropy against fairseq's own: values, gradients, precision."""

import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.chunked import cross_entropy
from ka_fairseq.loss.cross_entropy import row_cross_entropies
from ka_fairseq.loss.projection import Logits
from tests.support import projection, whole_logits


def made(seed, n, vocabulary):
    """Hidden states and a projection of peaked distributions, and targets."""
    generator = torch.Generator().manual_seed(seed)
    learner = projection(seed, n, 6, vocabulary)
    for tensor in learner.inputs:
        tensor.data *= 3
    return learner, torch.randint(vocabulary, (n,), generator=generator)


def fairseqs(learner, targets, epsilon):
    """Loss, NLL and the gradients of the projection's inputs, by fairseq and autograd."""
    lprobs = torch.log_softmax(whole_logits(learner), dim=-1)
    loss, nll = label_smoothed_nll_loss(lprobs, targets.unsqueeze(-1), epsilon)
    return loss, nll, torch.autograd.grad(loss, learner.inputs), lprobs


@given(
    seed=st.integers(0, 2**31),
    n=st.integers(1, 9),
    vocabulary=st.integers(2, 300),
    epsilon=st.sampled_from([0.0, 0.1, 0.7]),
    rows=st.integers(0, 9),
)
def test_it_is_fairseqs_loss_with_its_gradient(seed, n, vocabulary, epsilon, rows):
    """Whatever the chunks."""
    learner, targets = made(seed, n, vocabulary)
    loss, nll, gradients, lprobs = fairseqs(learner, targets, epsilon)
    found = cross_entropy(learner, targets, epsilon, rows, accuracy=True)
    torch.testing.assert_close(found.loss, loss)
    torch.testing.assert_close(found.nll_loss, nll)
    assert found.n_correct == lprobs.argmax(-1).eq(targets).sum()
    ours = torch.autograd.grad(3 * found.loss, learner.inputs)
    torch.testing.assert_close(ours, tuple(3 * gradient for gradient in gradients))


@given(seed=st.integers(0, 2**31), scale=st.sampled_from([1.0, 30.0, 3000.0]))
def test_float32_is_as_good_as_fairseqs(seed, scale):
    """Also where the target's probability is no float32 any more."""
    logits = torch.randn(5, 50, generator=torch.Generator().manual_seed(seed)) * scale
    targets = torch.randint(50, (5,), generator=torch.Generator().manual_seed(seed))
    exact = torch.log_softmax(logits.double(), dim=-1)
    wanted = label_smoothed_nll_loss(exact, targets.unsqueeze(-1), 0.1, reduce=False)
    found = row_cross_entropies(logits.clone(), targets, 0.1, gradient=False)
    for ours, theirs in zip(found, wanted, strict=False):
        torch.testing.assert_close(ours.double(), theirs.squeeze(-1), rtol=2e-6, atol=2e-6 * scale)


def test_log_probabilities_are_logits_too():
    """What an output layer that is no plain projection gives."""
    learner, targets = made(1, 7, 40)
    *_, lprobs = fairseqs(learner, targets, 0.1)
    whole = lprobs.detach().requires_grad_()
    loss, _ = label_smoothed_nll_loss(whole, targets.unsqueeze(-1), 0.1)
    found = cross_entropy(Logits(whole), targets, 0.1, 3)
    torch.testing.assert_close(found.loss, loss)
    # Of logits that are normalised already, the softmax's own gradient is added to fairseq's.
    (theirs,) = torch.autograd.grad(loss, whole)
    probs = whole.detach().exp()
    expected = theirs - probs * theirs.sum(-1, keepdim=True)
    torch.testing.assert_close(torch.autograd.grad(found.loss, whole)[0], expected)


def test_no_position_is_no_loss():
    learner, _ = made(1, 0, 40)
    found = cross_entropy(learner, torch.empty(0, dtype=torch.int64), 0.1)
    assert found.loss == 0
    assert all(not gradient.any() for gradient in torch.autograd.grad(found.loss, learner.inputs))


@pytest.mark.parametrize("accuracy", [False, True])
def test_without_a_gradient_the_logits_stay(accuracy):
    logits = torch.randn(4, 30)
    before = logits.clone()
    row_cross_entropies(logits, torch.arange(4), 0.1, False, accuracy)
    assert torch.equal(logits, before)
