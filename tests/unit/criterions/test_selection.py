"""D where the learner does badly: which positions, what is logged, and what is remembered."""

import math

import pytest
import torch
from fairseq.logging import metrics
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.criterions.selection import KEY
from ka_fairseq.errors import UserError
from ka_fairseq.loss.chunked import position_nll, transfer_loss
from ka_fairseq.loss.divergences import BACKWARD_KL, JSD_MIXTURE
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.hard_positions import HardPositions, quantile
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection
from tests.support import make_batch, make_model, make_task

V = 15


@pytest.fixture
def setup(binarized, teacher_file):
    def make(*arguments):
        task, cfg = make_task(
            binarized,
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--criterion", "forward_kl", *arguments),
        )
        return task, make_model(task, cfg), task.build_criterion(cfg.criterion)

    return make


def outputs(n=11):
    generator = torch.Generator().manual_seed(7)
    learner, teacher = (
        Projection(
            *(
                torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
                for size in ((n, width), (V, width), (V,))
            )
        )
        for width in (4, 5)
    )
    return learner, TeacherOutput([teacher]), torch.arange(n) % V


# -- the quantile ----------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 50), min_size=1, max_size=40), st.floats(0, 0.999))
def test_at_or_above_the_quantile_lies_its_share(values, share):
    values = torch.tensor(values, dtype=torch.float64)
    threshold = quantile(values, share)
    assert threshold in values
    below = values.lt(threshold).sum().item()
    assert below <= math.ceil(share * (len(values) - 1)) <= below + values.eq(threshold).sum()


def test_the_quantile_by_hand():
    values = torch.tensor([3.0, 1, 2, 4])
    assert [quantile(values, share).item() for share in (0, 0.3, 0.5, 0.9)] == [1, 2, 3, 4]


# -- in the loss -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rows_per_chunk", [0, 3])
@pytest.mark.parametrize("divergence", [BACKWARD_KL, JSD_MIXTURE.restricted(4, "generalized")])
def test_hard_positions_have_d_and_the_others_the_nll_alone(divergence, rows_per_chunk):
    """Against the loss of each position on its own."""
    learner, teacher, targets = outputs()
    objective = Objective(divergence, 0.3, 0.1, temperature=2.0)
    hard = HardPositions(0.5)
    found = transfer_loss(learner, teacher, targets, objective, rows_per_chunk, hard=hard)
    logits = learner.hidden @ learner.weight.T + learner.bias
    nll = torch.nn.functional.cross_entropy(logits, targets, reduction="none").detach()
    assert hard.count == hard.nll.ge(nll.sort().values[5]).sum() == 6
    torch.testing.assert_close(hard.nll, nll)
    expected = transfer = 0.0
    for row in range(len(targets)):
        one = Projection(learner.hidden[row : row + 1], learner.weight, learner.bias)
        (of_teacher,) = teacher.members
        other = Projection(of_teacher.hidden[row : row + 1], of_teacher.weight, of_teacher.bias)
        is_hard = bool(nll[row] >= nll.sort().values[5])
        weights = Objective(divergence, 0.3 * is_hard, 0.1, temperature=2.0, nll_weight=0.7)
        alone = transfer_loss(one, TeacherOutput([other]), targets[row : row + 1], weights)
        expected, transfer = expected + alone.loss, transfer + is_hard * alone.transfer_loss
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.transfer_loss, transfer)
    for one, other in zip(
        torch.autograd.grad(found.loss, learner.inputs),
        torch.autograd.grad(expected, learner.inputs),
        strict=True,
    ):
        torch.testing.assert_close(one, other)


def test_a_quantile_of_zero_is_all_of_them_to_the_last_bit():
    learner, teacher, targets = outputs()
    objective = Objective(BACKWARD_KL, 0.3, 0.1)
    plain = transfer_loss(learner, teacher, targets, objective)
    chosen = transfer_loss(learner, teacher, targets, objective, hard=HardPositions(0.0))
    assert all(torch.equal(one, other) for one, other in zip(plain, chosen, strict=True))
    for one, other in zip(
        torch.autograd.grad(plain.loss, learner.inputs),
        torch.autograd.grad(chosen.loss, learner.inputs),
        strict=True,
    ):
        assert torch.equal(one, other)


def test_a_window_spares_the_search(monkeypatch):
    """With NLLs from before, none is computed twice; with none, all positions are hard."""
    learner, teacher, targets = outputs()
    monkeypatch.setattr("ka_fairseq.loss.chunked.position_nll", pytest.fail)
    for window, expected in ((torch.empty(0), 11), (torch.tensor([1.0, 1e9]), 0)):
        hard = HardPositions(0.5, window)
        found = transfer_loss(learner, teacher, targets, Objective(BACKWARD_KL, 0.3), hard=hard)
        assert hard.count == expected and bool(found.transfer_loss) == bool(expected)


def test_no_position():
    learner, teacher, targets = outputs()
    empty = Projection(learner.hidden[:0], learner.weight, learner.bias)
    hard = HardPositions(0.5)
    found = transfer_loss(empty, teacher, targets[:0], Objective(BACKWARD_KL, 0.3), hard=hard)
    assert found.loss == 0 and hard.count == 0
    assert position_nll(empty.prepare(), targets[:0], 4).shape == (0,)


# -- in the criterion ------------------------------------------------------------------------------


def logged(criterion, *logs):
    with metrics.aggregate(new_root=True) as aggregate:
        criterion.reduce_metrics(list(logs))
    return aggregate.get_smoothed_values()


def test_what_is_logged_is_of_the_hard_positions(setup):
    task, model, criterion = setup("--select", "hard-batch", "--select-quantile", 0.75)
    batch = make_batch(task)
    values = logged(criterion, criterion(model, batch)[2])
    assert 0.2 < values["hard_share"] < 0.35
    log = criterion(model, batch)[2]
    expected = log["transfer_loss"].item() / log["nhard"].item() / math.log(2)
    assert values["transfer_loss"] == pytest.approx(expected, abs=2e-3)
    criterion.eval()
    everywhere = criterion(model, batch)[2]
    assert "nhard" not in everywhere and everywhere["transfer_loss"] > log["transfer_loss"]


def test_the_window_moves_on_with_the_updates(setup):
    """Of both batches of an update, in their order, and of no dummy; as long as it may be."""
    options = ("--select", "hard-global", "--select-window", 40)
    task, model, criterion = setup(*options)
    batches = [make_batch(task, size) for size in (2, 3)]
    nlls = []
    for update in range(3):
        for batch in batches:
            for is_dummy in (False, True):
                criterion.begin_batch(update, is_dummy)
                log = criterion(model, batch)[2]
            if update == 0:
                assert log["nhard"] == log["npositions"]
                rows = batch["target"].ne(task.target_dictionary.pad())
                lprobs = model.get_normalized_probs(model(**batch["net_input"]), log_probs=True)
                nlls.append(-lprobs.gather(-1, batch["target"].unsqueeze(-1)).squeeze(-1)[rows])
            elif len(batch["target"]) == 3:
                assert 0 < log["nhard"] < log["npositions"]
        criterion.end_update(torch.device("cpu"))
        kept = task.state_dict()[KEY]
        assert len(kept.storage()) == len(kept)
        torch.testing.assert_close(kept, torch.cat(nlls * 3)[-40:])


def test_nothing_is_remembered_without_a_window(setup):
    for kind in ("all", "hard-batch"):
        task, model, criterion = setup("--select", kind)
        criterion.begin_batch(0, is_dummy=False)
        criterion(model, make_batch(task))
        criterion.end_update(torch.device("cpu"))
        assert not task.state_dict() and not criterion.selection.met


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--select", "hard"), "unknown --select 'hard'; choose from all, hard-batch, hard-global"),
        (("--select-quantile", 1), r"--select-quantile must lie in \[0, 1\), not 1"),
        (("--select-window", 0), "--select-window must be 1 or more, not 0"),
    ],
)
def test_options_out_of_range(setup, arguments, says):
    with pytest.raises(UserError, match=says):
        setup(*arguments)
