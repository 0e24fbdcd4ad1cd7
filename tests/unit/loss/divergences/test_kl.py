"""The KLs in all forms, against a float64 reference written a second way and against the paper."""

import math

import numpy as np
import pytest
import torch

from ka_fairseq.loss.distribution import LOG_ZERO, entropy
from ka_fairseq.loss.divergences import (
    TOP_K_FORMS,
    backward_kl,
    check_top_k,
    forward_kl,
    jsd_mixture,
)
from tests.support import random_lprobs

DIVERGENCES = [forward_kl, backward_kl, jsd_mixture]
VOCABULARY = 12


def lprobs(logits):
    return torch.log_softmax(torch.as_tensor(logits), dim=-1)


# -- the reference: one row and one token at a time, in probabilities, by floats -----------------


def reference_kl(a, b, top_k, form):
    """KL(a‖b) of two probability vectors, restricted to the k best of a."""
    order = sorted(range(len(a)), key=lambda token: -a[token])
    best = order[: top_k or len(a)]
    rest = order[top_k or len(a) :]
    total = math.fsum(a[token] * math.log(a[token] / b[token]) for token in best if a[token] > 0)
    if not rest or form == "partial":
        return total
    if form == "generalized":
        return total + math.fsum(b[token] - a[token] for token in best)
    a_rest, b_rest = (math.fsum(x[token] for token in rest) for x in (a, b))
    return total + (a_rest * math.log(a_rest / b_rest) if a_rest > 0 else 0.0)


def reference(name, learner, teacher, top_k, form):
    rows = []
    for p, q in zip(learner.double().exp().tolist(), teacher.double().exp().tolist(), strict=True):
        forward = reference_kl(q, p, top_k, form)
        backward = reference_kl(p, q, top_k, form)
        rows.append(
            {
                "forward_kl": forward,
                "backward_kl": backward,
                "jsd_mixture": 0.5 * forward + 0.5 * backward,
            }[name]
        )
    return rows


@pytest.mark.parametrize("form", TOP_K_FORMS)
@pytest.mark.parametrize("top_k", [0, 1, 3, 8, VOCABULARY - 1, VOCABULARY])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_equals_the_float64_reference(divergence, top_k, form):
    p, q = random_lprobs()
    expected = reference(divergence.__name__, p, q, top_k, form)
    result = divergence(p, q, top_k=top_k, top_k_form=form)
    assert result.shape == (6,)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-10, atol=1e-12)
    single = divergence(p.float(), q.float(), top_k=top_k, top_k_form=form)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=2e-5, atol=2e-6)


def test_by_hand():
    p, q = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    ln2 = math.log(2)
    assert forward_kl(p, q).item() == pytest.approx(0.5 * ln2 - 0.25 * ln2, rel=1e-6)
    assert backward_kl(p, q).item() == pytest.approx(0.5 * ln2 - 0.25 * ln2, rel=1e-6)
    # k = 1: the learner's best token is 0, the teacher's is 1.
    one = {"top_k": 1}
    assert backward_kl(p, q, **one, top_k_form="partial").item() == pytest.approx(0.5 * ln2)
    assert backward_kl(p, q, **one).item() == pytest.approx(0.5 * ln2 - 0.5 + 0.25)
    assert forward_kl(p, q, **one).item() == pytest.approx(0.5 * ln2 + 0.25 - 0.5)
    tail = 0.5 * ln2 + 0.5 * math.log(0.5 / 0.75)
    assert backward_kl(p, q, **one, top_k_form="tail").item() == pytest.approx(tail, rel=1e-5)
    assert entropy(p).item() == pytest.approx(1.5 * ln2)


@pytest.mark.parametrize("form", TOP_K_FORMS)
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_whole_vocabulary_as_top_k_is_the_divergence_itself(divergence, form):
    p, q = random_lprobs(dtype=torch.float32)
    whole = divergence(p, q)
    assert torch.equal(divergence(p, q, top_k=VOCABULARY, top_k_form=form), whole)


@pytest.mark.parametrize("divergence", [forward_kl, backward_kl])
def test_the_printed_sum_is_not_stationary_at_equality(divergence):
    logits = torch.tensor([[1.0, 0.5, 0.0, -0.5]], requires_grad=True)
    divergence(lprobs(logits), lprobs(logits.detach()), top_k=2, top_k_form="partial").backward()
    assert logits.grad.abs().max() > 0.1


@pytest.mark.parametrize("form", TOP_K_FORMS)
@pytest.mark.parametrize("top_k", [0, 1, 4, VOCABULARY - 1, VOCABULARY])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_gradcheck(divergence, top_k, form):
    generator = torch.Generator().manual_seed(2)
    learner = torch.randn(3, VOCABULARY, dtype=torch.float64, generator=generator)
    teacher = lprobs(torch.randn(3, VOCABULARY, dtype=torch.float64, generator=generator))

    def of_logits(logits):
        return divergence(lprobs(logits), teacher, top_k=top_k, top_k_form=form)

    assert torch.autograd.gradcheck(of_logits, (learner.requires_grad_(),))


def test_extreme_logits_by_hand():
    learner = lprobs(torch.tensor([[1e4, -1e4], [-1e4, 1e4]]))
    teacher = lprobs(torch.tensor([[-1e4, 1e4], [0.0, 0.0]]))
    ln2 = math.log(2)
    np.testing.assert_allclose(backward_kl(learner, teacher).numpy(), [2e4, ln2], rtol=1e-6)
    np.testing.assert_allclose(forward_kl(learner, teacher).numpy(), [2e4, 1e4 - ln2], rtol=1e-6)


def test_probability_zero_is_worth_its_finite_logarithm():
    learner = torch.tensor([[0.0, 1.0, 2.0, 0.5]])
    teacher = torch.tensor([[0.0, -math.inf, -math.inf, 1.0]])
    p = torch.softmax(learner[0], -1)
    found = backward_kl(lprobs(learner), lprobs(teacher)).item()
    assert found == pytest.approx(-LOG_ZERO * (p[1] + p[2]).item(), rel=1e-3)


def test_tail_keeps_its_digits_where_the_rest_is_tiny():
    p = lprobs(torch.tensor([[30.0, 0.0, 0.0]], dtype=torch.float32))
    q = lprobs(torch.tensor([[40.0, 0.0, 0.0]], dtype=torch.float32))
    result = backward_kl(p, q, top_k=1, top_k_form="tail").item()
    p_rest, q_rest = 2 * math.exp(-30), 2 * math.exp(-40)
    assert result == pytest.approx(p_rest * math.log(p_rest / q_rest) - p_rest + q_rest, rel=1e-3)


# -- the paper's closed forms ----------------------------------------------------------------------


def pushes(divergence, p, q, top_k):
    """∂D/∂p(y) by autograd, with p(y) taken as free variables."""
    p = p.clone().requires_grad_()
    divergence(p.log(), q.log(), top_k=top_k).sum().backward()
    return p.grad


def test_equations_5_and_6_on_the_top_k():
    learner, teacher = (x.exp() for x in random_lprobs(rows=6))
    for divergence, expected, ranking in (
        (forward_kl, 1 - teacher / learner, teacher),
        (backward_kl, (learner / teacher).log(), learner),
    ):
        best = ranking.topk(4, dim=-1).indices
        inside = torch.zeros_like(learner).scatter(-1, best, 1.0)
        torch.testing.assert_close(pushes(divergence, learner, teacher, 4), expected * inside)


def test_full_divergences_follow_equations_5_and_6_on_the_simplex():
    """Through a softmax, z-gradients are p·(G − Σ p·G) for G of Eq. 5 and of Eq. 6."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(6, VOCABULARY, dtype=torch.float64, generator=generator)
    q = torch.softmax(torch.randn(6, VOCABULARY, dtype=torch.float64, generator=generator), -1)
    for divergence, of in (
        (forward_kl, lambda p: 1 - q / p),
        (backward_kl, lambda p: (p / q).log()),
    ):
        learner = logits.clone().requires_grad_()
        divergence(lprobs(learner), q.log()).sum().backward()
        p = torch.softmax(logits, -1)
        g = of(p)
        torch.testing.assert_close(learner.grad, p * (g - (p * g).sum(-1, keepdim=True)))


def test_the_two_properties_of_section_3_3():
    """Both orders push the same way; forward pulls up harder, backward pushes down harder."""
    learner, teacher = (x.exp() for x in random_lprobs(rows=50, seed=3))
    k = VOCABULARY - 1
    forward = pushes(forward_kl, learner, teacher, k)
    backward = pushes(backward_kl, learner, teacher, k)
    both = (forward != 0) & (backward != 0)
    low, high = both & (teacher > learner), both & (teacher < learner)
    assert low.any() and high.any()
    assert (forward[low] < 0).all() and (backward[low] < 0).all()
    assert (forward[high] > 0).all() and (backward[high] > 0).all()
    assert (forward[low].abs() > backward[low].abs()).all()
    assert (forward[high].abs() < backward[high].abs()).all()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize("top_k", [-1, VOCABULARY + 1])
def test_k_outside_the_vocabulary(top_k):
    p, q = random_lprobs()
    with pytest.raises(ValueError, match=r"between 0 .* and 12"):
        forward_kl(p, q, top_k=top_k)


def test_an_unknown_form_lists_the_valid_ones():
    with pytest.raises(ValueError, match="'tails'; choose from generalized, tail, partial"):
        check_top_k(1, "tails", VOCABULARY)


@pytest.mark.parametrize("shape", [(6, VOCABULARY + 1), (4, VOCABULARY), (VOCABULARY,)])
def test_shapes_must_agree(shape):
    p, _ = random_lprobs()
    with pytest.raises(ValueError, match="must both have the shape"):
        backward_kl(p, torch.zeros(shape))


def test_half_precision_is_widened():
    p, q = random_lprobs(dtype=torch.float32)
    result = backward_kl(p.bfloat16(), q.bfloat16())
    assert result.dtype == torch.float32
    assert torch.equal(result, backward_kl(p.bfloat16().float(), q.bfloat16().float()))
