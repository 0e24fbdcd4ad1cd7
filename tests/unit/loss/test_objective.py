"""(1 − λ)·NLL + λ·τ²·D at a temperature, of every divergence, against autograd in float64."""

import pytest
import torch

from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.divergences import FORWARD_KL, divergence_named, divergence_names
from ka_fairseq.loss.divergences.by_autograd import OfFunction
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from tests.support import projection, whole_logits
from tests.unit.loss.formulas import FORMULAS, softened

N, V = 9, 7
TARGETS = torch.arange(N) % V


def entropy(lprobs):
    return -(lprobs.exp() * lprobs).sum()


def check(divergence, formula, temperature):
    """Value, parts and gradients, in chunks of four positions."""
    learner, teacher = projection(1, N, 4, V), projection(2, N, 5, V)
    objective = Objective(divergence, 0.4, temperature=temperature)
    found = transfer_loss(learner, TeacherOutput([teacher]), TARGETS, objective, 4)
    logits, of_teacher = whole_logits(learner), whole_logits(teacher).detach()
    at_temperature = (softened(z, temperature) for z in (logits, of_teacher))
    transfer = temperature**2 * formula(*at_temperature).sum()
    nll = torch.nn.functional.cross_entropy(logits, TARGETS, reduction="sum")
    expected = 0.6 * nll + 0.4 * transfer
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.transfer_loss, transfer)
    torch.testing.assert_close(found.entropy, entropy(softened(logits, 1)))
    torch.testing.assert_close(found.teacher_entropy, entropy(softened(of_teacher, 1)))
    for ours, theirs in zip(
        torch.autograd.grad(found.loss, learner.inputs),
        torch.autograd.grad(expected, learner.inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
@pytest.mark.parametrize("name", divergence_names())
def test_temperature_softens_both_and_counts_squared(name, temperature):
    """The NLL and the entropies stay those of p and q."""
    check(divergence_named(name), FORMULAS[name], temperature)


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", ["forward_kl", "alpha_beta"])
def test_a_divergence_by_its_value_alone_is_softened_too(name, temperature):
    check(OfFunction(FORMULAS[name]), FORMULAS[name], temperature)


def test_an_ensemble_is_averaged_before_it_is_softened():
    members = [projection(2, N, 5, V), projection(5, N, 4, V)]
    mean = sum(whole_logits(member).softmax(-1) for member in members) / 2
    learner = projection(1, N, 4, V)
    objective = Objective(FORWARD_KL, 1.0, temperature=3.0)
    found = transfer_loss(learner, TeacherOutput(members), TARGETS, objective).loss
    at_temperature = softened(whole_logits(learner), 3), softened(mean.log(), 3)
    torch.testing.assert_close(found, 9 * FORMULAS["forward_kl"](*at_temperature).sum())
