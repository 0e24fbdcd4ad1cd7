"""The options that divergences have of their own, on the command line."""

from dataclasses import dataclass

import pytest
from fairseq import options as fairseq_options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import open_dict

from ka_fairseq.criterions.divergence_options import renew_criterions
from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import (
    ByAutograd,
    option,
    register_divergence,
    registry,
    values,
)
from ka_fairseq.loss.divergences.adaptive_kl import AdaptiveKL
from ka_fairseq.loss.divergences.alpha_beta import AlphaBeta
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.divergences.skew_kl import SkewBackwardKL, SkewForwardKL
from ka_fairseq.loss.divergences.total_variation import TotalVariation
from ka_fairseq.loss.positions import select, target_rows
from ka_fairseq.ranges import Range
from tests.support import log_probs, make_batch

GIVEN = [
    ("js", (), JensenShannon(0.5)),
    ("js", ("--js-beta", 0.1), JensenShannon(0.1)),
    ("skew_forward_kl", ("--skew-alpha", 0.3), SkewForwardKL(0.3)),
    ("skew_backward_kl", (), SkewBackwardKL(0.1)),
    ("tvd", (), TotalVariation()),
    ("alpha_beta", ("--ab-alpha", 0.2, "--ab-beta", 0.7), AlphaBeta(0.2, 0.7)),
    ("adaptive_kl", ("--akl-head", 0.8), AdaptiveKL(0.8)),
]


@pytest.mark.parametrize(("name", "options", "divergence"), GIVEN)
def test_the_loss_is_the_formula_over_whole_distributions(distillation, name, options, divergence):
    task, model, criterion = distillation(
        "transfer", "--divergence", name, *options, "--transfer-weight", 1
    )
    batch = make_batch(task)
    loss, _, log = criterion(model, batch)
    rows = target_rows(batch["target"], task.target_dictionary.pad())
    p, q = (select(log_probs(m, batch), rows).double() for m in (model, task.teacher.members[0]))
    expected = values(divergence, p, q).sum().item()
    assert log["transfer_loss"].item() == loss.item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ("--divergence", "tvd", "--js-beta", 0.5),
            "--js-beta is an option of js, not of tvd: leave out --js-beta",
        ),
        (("--js-beta", 0.5), "--js-beta is an option of js, not of backward_kl: leave out"),
        (
            ("--divergence", "js", "--skew-alpha", 0.5),
            "--skew-alpha is an option of skew_forward_kl and skew_backward_kl, not of js: leave",
        ),
        (("--divergence", "js", "--js-beta", 2), "--js-beta must lie between 0 and 1, not 2"),
        (
            ("--divergence", "js", "--top-k", 4),
            "--top-k 4 does not go with js: the divergence sums",
        ),
        (
            ("--divergence", "adaptive_kl", "--loss-kernel", "compiled"),
            "--loss-kernel compiled .*(cannot compile adaptive_kl|needs torch 2)",
        ),
    ],
)
def test_what_does_not_go_together(distillation, arguments, says):
    with pytest.raises(UserError, match=says) as error:
        distillation("transfer", *arguments)
    assert "\n" not in str(error.value)


# -- those of a divergence that a user registers, after the criterions were ------------------------


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "DIVERGENCES", dict(registry.DIVERGENCES))
    yield
    monkeypatch.undo()
    renew_criterions()


def a_divergence(flag="--renyi-alpha"):
    class Renyi(ByAutograd):
        alpha: float = option(flag, 0.5, "α, the order", Range(0.01, 0.99))

        def value(self, learner_lprobs, teacher_lprobs):
            both = self.alpha * teacher_lprobs + (1 - self.alpha) * learner_lprobs
            return both.logsumexp(-1) / (self.alpha - 1)

    return Renyi


def parsed(data, *arguments):
    parser = fairseq_options.get_training_parser()
    common = (data, "--cpu", "--arch", "transformer_tiny", "--task", "translation_with_teacher")
    words = [str(word) for word in (*common, *arguments)]
    return convert_namespace_to_omegaconf(fairseq_options.parse_args_and_arch(parser, words))


@pytest.mark.parametrize("name", ["transfer", "tie_kd"])
def test_a_users_divergence_has_options_on_the_command_line(
    own_registry, distillation, binarized, name
):
    renyi = register_divergence("renyi")(dataclass(frozen=True)(a_divergence()))
    task, *_ = distillation("transfer")
    given = ("--criterion", name, "--divergence", "renyi", *("--no-ranking",) * (name == "tie_kd"))
    for words, alpha in (((), 0.5), (("--renyi-alpha", 0.3), 0.3)):
        cfg = parsed(binarized, *given, *words)
        assert task.build_criterion(cfg.criterion).objective.divergence == renyi(alpha)
    for words, says in (
        (("--renyi-alpha", 1), "--renyi-alpha must lie between 0.01 and 0.99, not 1"),
        (("--renyi-alpha", 0.3, "--divergence", "tvd"), "is an option of renyi, not of tvd"),
    ):
        with pytest.raises(UserError, match=says):
            task.build_criterion(parsed(binarized, *given, *words).criterion)


def test_a_users_divergence_has_options_in_a_hydra_config(own_registry, distillation, binarized):
    """It is composed before the user's module is imported, so that it knows nothing of them."""
    task, *_ = distillation("transfer")
    cfg = parsed(binarized, "--criterion", "transfer")
    renyi = register_divergence("renyi")(dataclass(frozen=True)(a_divergence()))
    with open_dict(cfg):
        cfg.criterion = {"_name": "transfer", "divergence": "renyi", "renyi_alpha": 0.3}
    assert task.build_criterion(cfg.criterion).objective.divergence == renyi(0.3)


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (a_divergence("--seed"), "--seed of the divergence renyi is already an option of fairseq"),
        (a_divergence("--temperature"), "--temperature of the divergence renyi is already an"),
        (a_divergence("--ranking-k"), "--ranking-k of the divergence renyi is already an"),
        (a_divergence("--js-beta"), "there is already an option --js-beta with another default"),
    ],
)
def test_options_that_cannot_be(own_registry, made, says):
    with pytest.raises(ValueError, match=says):
        register_divergence("renyi")(dataclass(frozen=True)(made))
    assert "renyi" not in registry.DIVERGENCES


def test_a_class_with_options_is_a_dataclass(own_registry):
    with pytest.raises(ValueError, match=r"renyi.*must be a @dataclass"):
        register_divergence("renyi")(a_divergence())
