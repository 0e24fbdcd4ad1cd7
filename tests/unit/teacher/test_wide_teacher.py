"""With --amp a teacher in fp32 is slow: said once, where nobody chose it."""

import logging

import pytest
import torch

from ka_fairseq.teacher import frozen
from tests.support import make_batch, make_model, make_task


@pytest.mark.parametrize(("dtype", "times"), [(None, 1), ("fp32", 0)])
def test_a_wide_teacher_under_autocast_is_told_once(binarized, monkeypatch, caplog, dtype, times):
    task, cfg = make_task(binarized, "--task", "translation_with_teacher")
    model, batch = make_model(task, cfg), make_batch(task)
    teacher = frozen.FrozenTeacher([model], dtype).to(next(model.parameters()))
    frozen._tell_of_a_wide_teacher.cache_clear()
    rows = torch.arange(3)
    with caplog.at_level(logging.INFO, logger=frozen.logger.name):
        teacher.answer(batch["net_input"], rows)
        assert not [said for said in caplog.messages if "--amp" in said]
        monkeypatch.setattr(frozen, "autocast_dtype", lambda device: torch.float16)
        for _ in range(2):
            teacher.answer(batch["net_input"], rows)
    assert sum("--teacher-dtype bf16" in said for said in caplog.messages) == times
