"""λ, and the mixture of both KLs, over the updates of a training."""

import pytest

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import KLMixture
from tests.support import make_batch

WEIGHT = ("--transfer-weight", 0.2, "--transfer-weight-schedule", "linear")
TO = ("--transfer-weight-to", 0.8, "--transfer-weight-updates", 10)
MIXTURE = ("--mixture-from", 0, "--mixture-schedule", "cosine")
MIXTURE_TO = ("--mixture-to", 1, "--mixture-updates", 4)


def test_lambda_goes_by_the_updates(distillation):
    """The loss of an update is that of its λ; the parts stay what they are."""
    task, model, criterion = distillation("forward_kl", *WEIGHT, *TO)
    batch = make_batch(task)
    criterion(model, batch)
    assert criterion.objective.transfer_weight == 0.8  # as in fairseq-validate: where it ends
    for update, weight in ((0, 0.2), (5, 0.5), (10, 0.8), (11, 0.8)):
        task.update_num = update
        loss, _, log = criterion(model, batch)
        expected = (1 - weight) * log["nll_loss"] + weight * log["transfer_loss"]
        assert loss.item() == pytest.approx(expected.item(), rel=1e-6)


def test_lambda_may_begin_with_zero_and_end_with_one(distillation):
    """Then the teacher is asked from the first update on, for the log; the NLL is left out last."""
    schedule = ("--transfer-weight-schedule", "linear", "--transfer-weight-to", 1)
    task, model, criterion = distillation(
        "backward_kl", "--transfer-weight", 0, *schedule, "--transfer-weight-updates", 2
    )
    batch = make_batch(task)
    task.update_num = 0
    loss, _, log = criterion(model, batch)
    assert loss.item() == pytest.approx(log["nll_loss"].item()) and log["transfer_loss"] > 0
    task.update_num = 2
    loss, _, log = criterion(model, batch)
    assert loss.item() == log["transfer_loss"].item()


@pytest.mark.parametrize(
    ("criterion", "options"),
    [
        ("jsd_mixture", ()),
        ("transfer", ("--divergence", "jsd_mixture")),
        ("topk_kl", ("--order", "mixture")),
    ],
)
def test_from_forward_to_backward(distillation, criterion, options):
    task, model, scheduled = distillation(criterion, *options, *MIXTURE, *MIXTURE_TO)
    batch = make_batch(task)
    top_k = 8 if criterion == "topk_kl" else 0
    ends = []
    for name in ("forward_kl", "backward_kl"):
        _, _, end = distillation(name, "--top-k", top_k)
        end.task = task
        ends.append(end(model, batch)[2]["transfer_loss"].item())
    found = []
    for update in (0, 2, 4):
        task.update_num = update
        found.append(scheduled(model, batch)[2]["transfer_loss"].item())
    assert found == pytest.approx([ends[0], sum(ends) / 2, ends[1]], rel=1e-5)


def test_the_mixture_may_stay_uneven(distillation):
    task, model, criterion = distillation("jsd_mixture", "--mixture-from", 0.25)
    assert criterion.objective.divergence == KLMixture(0.75, 0.25)
    assert criterion(model, make_batch(task))[0] > 0


@pytest.mark.parametrize(
    ("criterion", "arguments", "says"),
    [
        ("forward_kl", (*WEIGHT[:3], "steps"), "'steps'; choose from constant, linear, cosine"),
        ("forward_kl", WEIGHT, "linear needs --transfer-weight-to and --transfer-weight-updates"),
        ("forward_kl", TO, "--transfer-weight-updates need --transfer-weight-schedule linear or"),
        ("forward_kl", (*WEIGHT, *TO[:3], 0), "--transfer-weight-updates must be 1 or more, not 0"),
        ("forward_kl", (*WEIGHT, "--transfer-weight-to", 2, *TO[2:]), "between 0 and 1, not 2"),
        ("jsd_mixture", (*MIXTURE_TO,), "need --mixture-schedule linear or cosine"),
        ("jsd_mixture", ("--mixture-from", -1), "--mixture-from must lie between 0 and 1, not -1"),
        (
            "topk_kl",
            (*MIXTURE, *MIXTURE_TO),
            "the divergence must be a mixture of both KLs, such as jsd_mixture",
        ),
        (
            "transfer",
            ("--divergence", "js", "--mixture-from", 0.5),
            "--mixture-from and --mixture-schedule: the divergence must be a mixture",
        ),
    ],
)
def test_what_does_not_go_together(distillation, criterion, arguments, says):
    with pytest.raises(UserError, match=says) as error:
        distillation(criterion, *arguments)
    assert "\n" not in str(error.value)
