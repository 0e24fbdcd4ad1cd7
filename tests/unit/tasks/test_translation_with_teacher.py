"""The task: when it loads its teacher, and that nobody else ever sees it."""

import pickle

import pytest
import torch
from fairseq import tasks
from fairseq.tasks.translation import TranslationConfig, TranslationTask

from ka_fairseq.errors import UserError
from ka_fairseq.tasks.frozen_teacher_task import FrozenTeacherTask, register_task_with_teacher
from tests.support import make_batch, make_model, make_task

pytestmark = pytest.mark.older


def with_teacher(data, teacher_file, *arguments):
    return make_task(
        data,
        *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
        *("--criterion", "backward_kl", *arguments),
    )


def test_the_teacher_comes_with_the_criterion_not_with_the_task(binarized, teacher_file):
    task, cfg = with_teacher(binarized, teacher_file)
    assert task.teacher is None
    make_model(task, cfg)
    assert task.teacher is None
    task.build_criterion(cfg.criterion)
    assert len(task.teacher.members) == 1
    first = task.teacher
    task.load_teacher()
    assert task.teacher is first


def test_lambda_zero_never_loads_a_teacher(binarized):
    task, cfg = with_teacher(binarized, "/no/such/file.pt", "--transfer-weight", 0)
    task.build_criterion(cfg.criterion)
    assert task.teacher is None


def test_no_teacher_path(binarized):
    task, cfg = make_task(
        binarized, "--task", "translation_with_teacher", "--criterion", "backward_kl"
    )
    with pytest.raises(UserError, match="pass --teacher-path"):
        task.build_criterion(cfg.criterion)


def test_nothing_that_is_saved_or_trained_holds_the_teacher(binarized, teacher_file):
    task, cfg = with_teacher(binarized, teacher_file)
    model, criterion = make_model(task, cfg), task.build_criterion(cfg.criterion)
    teachers = {id(p) for p in task.teacher.members[0].parameters()}
    held = {id(p) for module in (model, criterion) for p in module.parameters()}
    assert teachers and not teachers & held
    assert not criterion.state_dict()
    assert task.state_dict() == {}
    criterion.train()
    model.train()
    assert not any(module.training for module in task.teacher.members[0].modules())


def test_a_training_step_moves_the_learner_alone(binarized, teacher_file):
    task, cfg = with_teacher(binarized, teacher_file)
    model, criterion = make_model(task, cfg), task.build_criterion(cfg.criterion)
    before = [p.clone() for p in task.teacher.members[0].parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = make_batch(task)
    first, *_ = criterion(model, batch)
    first.backward()
    optimizer.step()
    second, *_ = criterion(model, batch)
    assert second < first
    assert all(p.grad is None for p in task.teacher.members[0].parameters())
    assert all(
        torch.equal(p, q) for p, q in zip(before, task.teacher.members[0].parameters(), strict=True)
    )


def test_validation_bleu_is_the_learners(binarized, teacher_file):
    """Building the teacher through the task would leave the task's generator with the teacher."""
    task, cfg = with_teacher(
        binarized, teacher_file, "--eval-bleu", "--eval-bleu-args", '{"beam": 1, "max_len_b": 5}'
    )
    model = make_model(task, cfg)
    criterion = task.build_criterion(cfg.criterion)
    task.valid_step(make_batch(task), model, criterion)
    assert list(task.sequence_generator.model.models) == [model]


def test_any_task_can_be_given_a_teacher():
    extended = register_task_with_teacher(
        "translation_with_teacher_for_a_test", TranslationTask, TranslationConfig
    )
    assert issubclass(extended, (TranslationTask, FrozenTeacherTask))
    assert tasks.get_task("translation_with_teacher_for_a_test") is extended


def test_the_configuration_travels_to_worker_processes(binarized, teacher_file):
    _, cfg = with_teacher(binarized, teacher_file)
    assert pickle.loads(pickle.dumps(cfg)).task.teacher_path == str(teacher_file)
