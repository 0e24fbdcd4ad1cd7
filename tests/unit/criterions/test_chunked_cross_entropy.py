"""``chunked_cross_entropy`` beside fairseq's label_smoothed_cross_entropy: the same batches."""

import pytest
import torch

from ka_fairseq.errors import UserError
from tests.support import make_batch, make_model, make_task

ADAPTIVE = ("--adaptive-softmax-cutoff", "20,60", "--ddp-backend", "legacy_ddp")


def step(binarized, criterion, *arguments):
    """What the criterion says of a batch, and the gradient, after the same start."""
    task, cfg = make_task(binarized, "--criterion", criterion, *arguments)
    torch.manual_seed(3)
    model = make_model(task, cfg)
    loss, size, log = task.build_criterion(cfg.criterion)(model, make_batch(task))
    loss.backward()
    return loss, size, log, torch.cat([p.grad.flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--label-smoothing", 0.1),
        ("--label-smoothing", 0.1, "--report-accuracy", "--loss-chunk-tokens", 3),
        ("--sentence-avg", "--ignore-prefix-size", 2, "--report-accuracy"),
    ],
)
def test_loss_gradient_and_logs_are_fairseqs(binarized, arguments):
    chunked = [word for word in arguments if word not in ("--loss-chunk-tokens", 3)]
    loss, size, log, gradient = step(binarized, "label_smoothed_cross_entropy", *chunked)
    ours = step(binarized, "chunked_cross_entropy", *arguments)
    torch.testing.assert_close(ours[0].float(), loss, rtol=1e-5, atol=0)
    assert ours[1] == size and ours[2].keys() == log.keys()
    for name, value in log.items():
        assert float(ours[2][name]) == pytest.approx(float(value), rel=1e-5), name
    assert (ours[3] - gradient).norm() <= 1e-5 * gradient.norm()


def test_an_adaptive_softmax_learns_too(binarized):
    """For which fairseq has another criterion, which knows no label smoothing."""
    loss, *_ = step(binarized, "adaptive_loss", *ADAPTIVE)
    ours, *_ = step(binarized, "chunked_cross_entropy", *ADAPTIVE)
    assert ours.item() == pytest.approx(loss.item(), rel=1e-5)


def test_each_tokens_loss_is_fairseqs(binarized):
    found = {}
    for name in ("label_smoothed_cross_entropy", "chunked_cross_entropy"):
        task, cfg = make_task(binarized, "--criterion", name, "--label-smoothing", 0.1)
        torch.manual_seed(3)
        model = make_model(task, cfg)
        found[name] = task.build_criterion(cfg.criterion)(model, make_batch(task), reduce=False)[0]
    assert torch.equal(*found.values())


def test_a_negative_chunk_is_refused(binarized):
    task, cfg = make_task(
        binarized, "--criterion", "chunked_cross_entropy", "--loss-chunk-tokens", -1
    )
    with pytest.raises(UserError, match="--loss-chunk-tokens must be 0 or more, not -1"):
        task.build_criterion(cfg.criterion)
