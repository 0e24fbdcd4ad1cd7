"""Selection in the criterion: what is logged of hard positions, and what is remembered."""

import math

import pytest
import torch

from ka_fairseq.criterions.selection import KEY
from ka_fairseq.errors import UserError
from tests.support import log_probs, logged, make_batch


def test_what_is_logged_is_of_the_hard_positions(distillation):
    task, model, criterion = distillation(
        "forward_kl", "--select", "hard-batch", "--select-quantile", 0.75
    )
    batch = make_batch(task)
    values = logged(criterion, criterion(model, batch)[2])
    assert 0.2 < values["hard_share"] < 0.35
    log = criterion(model, batch)[2]
    expected = log["transfer_loss"].item() / log["nhard"].item() / math.log(2)
    assert values["transfer_loss"] == pytest.approx(expected, abs=2e-3)
    criterion.eval()
    everywhere = criterion(model, batch)[2]
    assert "nhard" not in everywhere and everywhere["transfer_loss"] > log["transfer_loss"]


def test_the_window_moves_on_with_the_updates(distillation):
    """Of both batches of an update, in their order, and of no dummy; as long as it may be."""
    options = ("--select", "hard-global", "--select-window", 40)
    task, model, criterion = distillation("forward_kl", *options)
    batches = [make_batch(task, size) for size in (2, 3)]
    nlls = []
    for update in range(3):
        for batch in batches:
            for is_dummy in (False, True):
                task.is_dummy_batch = is_dummy
                log = criterion(model, batch)[2]
            if update == 0:
                assert log["nhard"] == log["npositions"]
                rows = batch["target"].ne(task.target_dictionary.pad())
                lprobs = log_probs(model, batch)
                nlls.append(-lprobs.gather(-1, batch["target"].unsqueeze(-1)).squeeze(-1)[rows])
            elif len(batch["target"]) == 3:
                assert 0 < log["nhard"] < log["npositions"]
        task.after_update(torch.device("cpu"))
        kept = task.state_dict()[KEY]
        assert len(kept.storage()) == len(kept)
        torch.testing.assert_close(kept, torch.cat(nlls * 3)[-40:])


def test_nothing_is_remembered_without_a_window(distillation):
    for kind in ("all", "hard-batch"):
        task, model, criterion = distillation("forward_kl", "--select", kind)
        criterion(model, make_batch(task))
        task.after_update(torch.device("cpu"))
        assert not task.state_dict() and not criterion.selection.met


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--select", "hard"), "unknown --select 'hard'; choose from all, hard-batch, hard-global"),
        (("--select-quantile", 1), r"--select-quantile must lie in \[0, 1\), not 1"),
        (("--select-window", 0), "--select-window must be 1 or more, not 0"),
    ],
)
def test_options_out_of_range(distillation, arguments, says):
    with pytest.raises(UserError, match=says):
        distillation("forward_kl", *arguments)
