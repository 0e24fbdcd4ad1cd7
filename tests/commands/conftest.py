"""Command lines that several files begin with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import train_options


@pytest.fixture(scope="session")
def fine_tuning(binarized, teacher_file, learner_file) -> Callable[..., list[object]]:
    """What fairseq-train is given to fine-tune the learner: by folder, criterion and options."""

    def fine_tuning(
        folder: Path, criterion: str, *arguments: object, teacher: Path = teacher_file
    ) -> list[object]:
        return train_options(
            binarized,
            folder,
            *("--task", "translation_with_teacher", "--teacher-path", teacher),
            *("--criterion", criterion, "--finetune-from-model", learner_file, *arguments),
        )

    return fine_tuning
