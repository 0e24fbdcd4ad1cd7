"""Divergences by name, and those that are written by their value alone."""

import pytest

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
from ka_fairseq.loss.divergences.by_autograd import OfFunction


@pytest.fixture(autouse=True)
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "DIVERGENCES", dict(registry.DIVERGENCES))


def hellinger(learner_lprobs, teacher_lprobs):
    return 0.5 * ((learner_lprobs / 2).exp() - (teacher_lprobs / 2).exp()).pow(2).sum(-1)


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
    with pytest.raises(ValueError, match="there is already a divergence 'forward_kl'"):
        register_divergence("forward_kl")(hellinger)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lambda lp, lq: lp - lq, r"shape \(n,\).*for n = 2 and V = 3 it was \(2, 3\)"),
        (lambda lp, lq: 0.0, "it was float"),
        (lambda lp, lq: lq.sum(-1), "does not depend on the student"),
    ],
)
def test_what_is_no_divergence(function, says):
    with pytest.raises(ValueError, match=says) as error:
        register_divergence("wrong")(function)
    assert "the divergence 'wrong'" in str(error.value) and "wrong" not in divergence_names()


def test_top_k_does_not_go_with_a_value_alone():
    divergence = OfFunction(hellinger)
    assert divergence.restricted(0, "generalized") is divergence
    with pytest.raises(ValueError, match="leave out the top-k options"):
        divergence.restricted(8, "tail")
