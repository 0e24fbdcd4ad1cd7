"""Divergences by name, and those that are written by their value alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.divergences import (
    BACKWARD_KL,
    FORWARD_KL,
    JSD_MIXTURE,
    ByAutograd,
    divergence_named,
    divergence_names,
    register_divergence,
    registry,
)
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_DIVERGENCES", dict(registry._DIVERGENCES))


def hellinger(learner_lprobs, teacher_lprobs):
    return 0.5 * ((learner_lprobs / 2).exp() - (teacher_lprobs / 2).exp()).pow(2).sum(-1)


VALUES = {
    "forward_kl": lambda lp, lq: (lq.exp() * (lq - lp)).sum(-1),
    "backward_kl": lambda lp, lq: (lp.exp() * (lp - lq)).sum(-1),
    "jsd_mixture": lambda lp, lq: 0.5 * ((lq.exp() - lp.exp()) * (lq - lp)).sum(-1),
}


def projection(seed, n, width, vocabulary):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((n, width), (vocabulary, width), (vocabulary,))
    return Projection(
        *(torch.randn(s, generator=generator, dtype=torch.float64).requires_grad_() for s in shapes)
    )


def loss_and_gradients(divergence, rows_per_chunk=0, moved=None, **options):
    learner, teacher = projection(1, 9, 4, 7), TeacherOutput([projection(2, 9, 5, 7)])
    if moved:
        which, place, change = moved
        learner.inputs[which].data.view(-1)[place] += change
    targets = torch.arange(9) % 7
    objective = Objective(divergence, 0.4, 0.1, **options)
    losses = transfer_loss(learner, teacher, targets, objective, rows_per_chunk)
    return losses, torch.autograd.grad(losses.loss, learner.inputs)


def test_a_function_and_a_registration_are_all():
    assert register_divergence("hellinger")(hellinger) is hellinger
    assert divergence_names()[-1] == "hellinger"
    registered = divergence_named("hellinger")
    assert isinstance(registered, ByAutograd) and not registered.compiles
    assert register_divergence("hellinger")(hellinger) is hellinger  # imported twice


def test_names():
    assert divergence_named("forward_kl") is FORWARD_KL
    assert divergence_named("backward_kl") is BACKWARD_KL
    assert divergence_named("jsd_mixture") is JSD_MIXTURE
    with pytest.raises(ValueError, match="unknown divergence 'helinger'; choose from forward_kl,"):
        divergence_named("helinger")
    with pytest.raises(ValueError, match="there is a divergence 'forward_kl' already"):
        register_divergence("forward_kl")(hellinger)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda lp, lq: lp - lq, r"shape \(n,\).*for n = 2 and V = 3 it made \(2, 3\)"),
        (lambda lp, lq: 0.0, "it made float"),
        (lambda lp, lq: lq.sum(-1), "does not depend on the learner"),
    ],
)
def test_what_is_no_divergence(function, says):
    with pytest.raises(ValueError, match=says) as error:
        register_divergence("wrong")(function)
    assert "the divergence 'wrong'" in str(error.value) and "wrong" not in divergence_names()


def test_top_k_does_not_go_with_a_value_alone():
    divergence = ByAutograd(hellinger)
    assert divergence.restricted(0, "generalized") is divergence
    with pytest.raises(ValueError, match="leave the top-k options out"):
        divergence.restricted(8, "tail")


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("rows_per_chunk", [0, 2])
@pytest.mark.parametrize("name", VALUES)
def test_autograd_and_closed_form_are_the_same(name, rows_per_chunk, temperature):
    """The paper's divergences, written by their value: the same numbers by the other route."""
    options = {"rows_per_chunk": rows_per_chunk, "temperature": temperature}
    closed, of_closed = loss_and_gradients(divergence_named(name), **options)
    by_value, of_value = loss_and_gradients(ByAutograd(VALUES[name]), **options)
    for one, other in zip(closed, by_value, strict=True):
        torch.testing.assert_close(one, other)
    for one, other in zip(of_closed, of_value, strict=True):
        torch.testing.assert_close(one, other)


def test_the_gradient_of_a_registered_one_is_right():
    """Against differences of the loss itself, in float64."""
    losses, gradients = loss_and_gradients(ByAutograd(hellinger), 2)
    assert losses.transfer_loss > 0
    step = 1e-6
    for which, gradient in enumerate(gradients):
        for place in (0, gradient.numel() // 2, gradient.numel() - 1):
            values = [
                loss_and_gradients(ByAutograd(hellinger), moved=(which, place, change))[0].loss
                for change in (step, -step)
            ]
            difference = (values[0] - values[1]).item() / (2 * step)
            assert gradient.flatten()[place].item() == pytest.approx(difference, abs=1e-6)


@settings(deadline=None)
@given(st.floats(0.2, 8), st.sampled_from(list(VALUES)), st.floats(0, 1))
def test_temperature_softens_both_and_counts_squared(temperature, name, weight):
    """Against softmaxes of z/τ in plain autograd; NLL and entropies stay those of p and q."""
    learner, member = projection(3, 6, 4, 5), projection(4, 6, 3, 5)
    targets = torch.arange(6) % 5
    objective = Objective(divergence_named(name), weight, temperature=temperature)
    losses = transfer_loss(learner, TeacherOutput([member]), targets, objective, 4)

    def log_softmax(output, at):
        logits = output.hidden @ output.weight.T + output.bias
        return (logits / at).log_softmax(-1)

    lq = log_softmax(member, temperature).detach()
    divergence = VALUES[name](log_softmax(learner, temperature), lq).sum() * temperature**2
    lp = log_softmax(learner, 1)
    nll = -lp.gather(-1, targets.unsqueeze(-1)).sum()
    expected = (1 - weight) * nll + weight * divergence
    torch.testing.assert_close(losses.loss, expected)
    torch.testing.assert_close(losses.entropy, -(lp.exp() * lp).sum())
    lq = log_softmax(member, 1)
    torch.testing.assert_close(losses.teacher_entropy, -(lq.exp() * lq).sum())
    for ours, theirs in zip(
        torch.autograd.grad(losses.loss, learner.inputs),
        torch.autograd.grad(expected, learner.inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_an_ensemble_is_averaged_before_it_is_softened():
    members = [projection(2, 9, 5, 7), projection(5, 9, 4, 7)]
    mean = sum((m.hidden @ m.weight.T + m.bias).softmax(-1) for m in members) / 2
    lq = (mean.log() / 3).log_softmax(-1).detach()
    learner = projection(1, 9, 4, 7)
    lp = ((learner.hidden @ learner.weight.T + learner.bias) / 3).log_softmax(-1)
    objective = Objective(FORWARD_KL, 1.0, temperature=3.0)
    found = transfer_loss(learner, TeacherOutput(members), torch.zeros(9).long(), objective).loss
    assert found.item() == pytest.approx(9 * VALUES["forward_kl"](lp, lq).sum().item())
    assert math.isfinite(found.item())
