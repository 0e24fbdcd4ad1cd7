"""Views of a batch: each has its shares of the NLL and of D; the default is the one of today."""

from dataclasses import replace

import pytest
import torch

from ka_fairseq.tasks.views import View, with_decoder_input
from tests.support import gradient_of

SMOOTHED = ("backward_kl", "--label-smoothing", 0.1)


def results(distillation, views, *arguments):
    task, model, criterion, batch = distillation(*SMOOTHED, *arguments).with_batch()
    if views is not None:
        task.views = lambda sample, learner: views(sample)
    loss, size, log = criterion(model, batch)
    loss.backward()
    gradient = gradient_of(model)
    return {**log, "loss": loss, "size": size}, gradient


def assert_same(one, other):
    (log, gradient), (their_log, their_gradient) = one, other
    assert log.keys() == their_log.keys()
    for name in log:
        assert float(log[name]) == pytest.approx(float(their_log[name]), rel=1e-5), name
    torch.testing.assert_close(gradient, their_gradient, rtol=1e-4, atol=1e-4)


def test_two_halves_are_the_whole(distillation):
    halves = [View({}, 0.5, 0.5)] * 2
    options = ("--report-accuracy",)
    assert_same(
        results(distillation, lambda sample: [replace(v, sample=sample) for v in halves], *options),
        results(distillation, None, *options),
    )


def test_the_nll_and_the_divergence_may_be_taken_apart(distillation):
    apart = [View({}, nll_share=1, transfer_share=0), View({}, nll_share=0, transfer_share=1)]
    assert_same(
        results(distillation, lambda sample: [replace(view, sample=sample) for view in apart]),
        results(distillation, None),
    )


def test_a_view_without_a_share_of_d_asks_no_teacher(distillation):
    task, model, criterion, batch = distillation(*SMOOTHED).with_batch()
    task.views = lambda sample, learner: [View(sample, transfer_share=0)]
    task.ask_teacher = None
    loss, _, log = criterion(model, batch)
    assert loss > 0 and "transfer_loss" not in log


def test_other_decoder_inputs_pass_the_cache_by(distillation, tmp_path):
    """The teacher answers what the view reads, not what is stored of the dataset's own pair."""
    cache = ("--teacher-cache", tmp_path / "cache")
    losses = []
    for options in (cache, cache, ()):
        _, model, criterion, batch = distillation(*SMOOTHED, *options).with_batch()
        criterion(model, batch)
        tokens = batch["net_input"]["prev_output_tokens"].flip(0)
        changed = with_decoder_input(batch, tokens)
        assert torch.equal(changed["net_input"]["prev_output_tokens"], tokens)
        assert not torch.equal(batch["net_input"]["prev_output_tokens"], tokens)
        losses.append(criterion(model, changed)[0].item())
    assert losses[0] == losses[1] == pytest.approx(losses[2], rel=1e-6)
