"""A training step through fairseq's own trainer: what the criterion is told; the frozen teacher."""

import pytest
import torch
from fairseq.logging import metrics
from fairseq.trainer import Trainer

from ka_fairseq.loss.schedule import Schedule
from tests.support import Training, make_batch, make_model, make_task

WEIGHT = ("--transfer-weight", 0.2, "--transfer-weight-schedule", "linear")
WEIGHT_TO = ("--transfer-weight-to", 0.8, "--transfer-weight-updates", 3)
MIXTURE = ("--mixture-from", 0, "--mixture-schedule", "cosine")
MIXTURE_TO = ("--mixture-to", 1, "--mixture-updates", 3)


@pytest.fixture
def training(binarized, teacher_file):
    """fairseq's trainer, and what it trains, with a λ and a mixture that change."""

    def training():
        task, cfg = make_task(
            binarized,
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--criterion", "jsd_mixture", *WEIGHT, *WEIGHT_TO, *MIXTURE, *MIXTURE_TO),
            *("--optimizer", "adam", "--lr", 1e-3, "--max-update", 5),
        )
        made = Training(task, make_model(task, cfg), task.build_criterion(cfg.criterion))
        trainer = Trainer(cfg, *made)
        trainer.begin_epoch(1)
        return trainer, made

    with metrics.aggregate(new_root=True):  # fairseq's meters are the process's
        yield training


def step(trainer, made):
    """One update; the λ of it and the share of the backward KL."""
    trainer.train_step([make_batch(made.task)])
    objective = made.criterion.objective
    return objective.transfer_weight, objective.divergence.backward


def test_an_update_has_the_weights_of_its_number_also_where_a_training_goes_on(training, tmp_path):
    """The first is number 0: Schedule.at, and by hand."""
    weight = Schedule("linear", 0.2, 0.8, 3)
    share = Schedule("cosine", 0.0, 1.0, 3)
    expected = [(weight.at(update), share.at(update)) for update in range(5)]
    assert expected[0] == (0.2, 0) and expected[1] == pytest.approx((0.4, 0.25))
    trainer, made = training()
    assert [step(trainer, made) for _ in range(5)] == expected

    trainer, made = training()
    for _ in range(2):
        step(trainer, made)
    trainer.consolidate_optimizer()
    trainer.save_checkpoint(str(tmp_path / "last.pt"), {"train_iterator": {"epoch": 1}})
    trainer, made = training()
    trainer.load_checkpoint(str(tmp_path / "last.pt"))
    assert [step(trainer, made) for _ in range(3)] == expected[2:]


@pytest.fixture
def dropping(copy_of_teacher):
    """The options of a teacher that was trained with dropout."""
    state = torch.load(copy_of_teacher, weights_only=True)
    state["cfg"]["model"].dropout = 0.3
    torch.save(state, copy_of_teacher)
    return ("--teacher-path", copy_of_teacher)


def test_a_teacher_trained_with_dropout_answers_the_same_twice(distillation, dropping):
    """Also in a training step, which puts learner and criterion into training."""
    task, model, criterion, batch = distillation("forward_kl", *dropping).with_batch()
    (member,) = task.teacher.members
    assert any(getattr(module, "p", 0) == 0.3 for module in member.modules())
    logs = []
    for prepare in (lambda: None, model.train, criterion.train, lambda: criterion.eval()):
        prepare()
        logs.append(criterion(model, batch)[2])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    optimizer.backward = torch.Tensor.backward
    logs.append(task.train_step(batch, model, criterion, optimizer, update_num=0)[2])
    for log in logs[1:]:
        for name in ("transfer_loss", "teacher_entropy"):
            assert torch.equal(log[name], logs[0][name])
