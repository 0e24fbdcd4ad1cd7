"""An update that half precision spoiled leaves nothing in the window of hard positions."""

import contextlib

import pytest
import torch
from fairseq.optim.amp_optimizer import AMPOptimizer

from ka_fairseq.criterions.selection import KEY
from tests.support import make_batch, make_model, make_task


class Optimizer:
    """Makes an update, or overflows."""

    def __init__(self, overflows=False):
        self.overflows = overflows

    def step(self):
        if self.overflows:
            raise OverflowError

    def backward(self, loss):
        loss.backward()


class AmpOptimizer(AMPOptimizer):
    """As fairseq's: it steps over an update that overflows, and lowers the scale of the losses."""

    def __init__(self, scales):
        self.scales = iter(scales)
        self.scale = next(self.scales)

    @property
    def scaler(self):
        return self

    def get_scale(self):
        return self.scale

    def step(self):
        self.scale = next(self.scales)

    def backward(self, loss):
        loss.backward()


@pytest.fixture
def training(binarized, teacher_file):
    task, cfg = make_task(
        binarized,
        *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
        *("--criterion", "forward_kl", "--select", "hard-global"),
    )
    return task, make_model(task, cfg), task.build_criterion(cfg.criterion), make_batch(task)


def attempt(training, optimizer, update=0):
    """As fairseq's trainer attempts an update of two batches; its window afterwards."""
    task, model, criterion, batch = training
    model.train()
    criterion.train()
    for _ in range(2):
        task.train_step(batch, model, criterion, optimizer, update)
    with contextlib.suppress(OverflowError):
        task.optimizer_step(optimizer, model, update)
    window = task.state.state_dict.get(KEY)
    return torch.empty(0) if window is None else window


def test_what_overflowed_in_fp16_is_not_kept(training):
    _, model, _, batch = training
    weight = model.decoder.output_projection.weight
    before = weight.detach().clone()
    with torch.no_grad():
        weight.fill_(torch.nan)
    assert not len(attempt(training, Optimizer(overflows=True)))
    with torch.no_grad():
        weight.copy_(before)
    window = attempt(training, Optimizer())
    assert len(window) == 2 * batch["ntokens"] and torch.isfinite(window).all()


def test_a_batch_that_amp_tries_again_counts_once(training):
    *_, batch = training
    optimizer = AmpOptimizer([128.0, 64.0, 64.0, 128.0])
    assert not len(attempt(training, optimizer))
    assert len(attempt(training, optimizer)) == 2 * batch["ntokens"]
    assert len(attempt(training, optimizer, update=1)) == 4 * batch["ntokens"]  # the scale grew
