"""Several passes a batch: which trainings can have them, and who answers the further ones."""

import pytest
import torch

from ka_fairseq.errors import UserError
from ka_fairseq.tasks import frozen_teacher_task
from ka_fairseq.teacher.cache.cached_dataset import KEY
from tests.support import make_batch, make_model, make_task

ON_POLICY = ("--on-policy-fraction", 0.5)


def build(binarized, teacher_file, *arguments):
    task, cfg = make_task(
        binarized,
        *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
        *arguments,
    )
    return task, make_model(task, cfg), task.build_criterion(cfg.criterion)


@pytest.fixture
def build_as_worker(binarized, teacher_file, monkeypatch):
    def build_as_worker(*arguments, workers=2):
        utils = frozen_teacher_task.distributed_utils
        monkeypatch.setattr(utils, "get_global_world_size", lambda: workers)
        return build(binarized, teacher_file, "--checkpoint-activations", *arguments)

    return build_as_worker


@pytest.mark.parametrize(
    "arguments",
    [
        ("--criterion", "tie_kd"),
        ("--criterion", "backward_kl", "--views", "argmax"),
        ("--criterion", "backward_kl", *ON_POLICY, "--on-policy-keep-nll"),
    ],
)
def test_several_passes_and_workers_do_not_forget_activations(build_as_worker, arguments):
    with pytest.raises(UserError, match=r"^error: --checkpoint-act.* does not go .*legacy_ddp"):
        build_as_worker(*arguments)
    build_as_worker(*arguments, workers=1)
    build_as_worker(*arguments, "--ddp-backend", "legacy_ddp")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--criterion", "backward_kl"),
        ("--criterion", "tie_kd", "--views", "reference"),
        ("--criterion", "tie_kd", "--view-passes", 1),
        ("--criterion", "backward_kl", *ON_POLICY),
    ],
)
def test_one_pass_may_forget_them(build_as_worker, arguments):
    build_as_worker(*arguments)


# -- what no cache stores --------------------------------------------------------------------------


@pytest.fixture
def answered(monkeypatch):
    """The precisions in which a teacher's decoder ran."""
    found = []
    answer = frozen_teacher_task.FrozenTeacher.answer

    def watched(teacher, net_input, rows):
        found.append(next(teacher.members[0].parameters()).dtype)
        return answer(teacher, net_input, rows)

    monkeypatch.setattr(frozen_teacher_task.FrozenTeacher, "answer", watched)
    return found


@pytest.mark.parametrize(
    ("dtype", "given", "expected"),
    [
        (torch.bfloat16, (), [torch.float32] + 2 * [torch.bfloat16] + 2 * [torch.bfloat16]),
        (torch.float32, (), 5 * [torch.float32]),
        (torch.bfloat16, ("--teacher-dtype", "fp32"), 5 * [torch.float32]),
    ],
)
def test_further_passes_are_answered_in_the_learners_precision(
    binarized, teacher_file, tmp_path, answered, dtype, given, expected
):
    """Three passes, of which the first is stored; then once more, with that one read."""
    task, model, criterion = build(
        *(binarized, teacher_file, "--criterion", "tie_kd"),
        *("--teacher-cache", tmp_path / "cache", *given),
    )
    model.to(dtype)
    weight = task.teacher.members[0].decoder.output_projection.weight.clone()
    for _ in range(2):
        batch = make_batch(task)
        loss, *_ = criterion(model, batch)
        assert torch.isfinite(loss)
    assert "hidden" in batch[KEY]
    assert answered == expected
    # What fills the cache is not rounded by it.
    assert torch.equal(task.teacher.members[0].decoder.output_projection.weight, weight)


def test_a_copy_is_made_once(binarized, teacher_file, tmp_path):
    task, *_ = build(
        *(binarized, teacher_file, "--criterion", "tie_kd"),
        *("--teacher-cache", tmp_path / "cache"),
    )
    assert task.asked_teacher(torch.bfloat16) is task.asked_teacher(torch.bfloat16)
    assert task.asked_teacher(torch.float32) is task.teacher
