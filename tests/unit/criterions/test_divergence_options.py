"""The options that divergences have of their own, on the command line."""

import pytest

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import (
    AdaptiveKL,
    AlphaBeta,
    JensenShannon,
    SkewBackwardKL,
    SkewForwardKL,
    TotalVariation,
    values,
)
from ka_fairseq.loss.positions import select, target_rows
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
            "--js-beta does not go with tvd: it is an opti",
        ),
        (("--js-beta", 0.5), "--js-beta does not go with backward_kl: it is an option of js"),
        (
            ("--divergence", "js", "--skew-alpha", 0.5),
            "--skew-alpha does not go with js: it is an option of skew_forward_kl and skew_backw",
        ),
        (("--divergence", "js", "--js-beta", 2), "js_beta must lie between 0 and 1, not 2"),
        (("--divergence", "js", "--top-k", 4), "--top-k 4 does not go with js: it sums over the"),
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
