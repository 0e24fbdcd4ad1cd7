"""Real text, binarized once, and a teacher trained on it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import TEXT, run, train, words_to_types


@pytest.fixture(scope="session")
def binarized(tmp_path_factory) -> Path:
    """fairseq-preprocess'd German–English text with a joined dictionary."""
    folder = tmp_path_factory.mktemp("corpus")
    for split in ("train", "valid"):
        for language in ("de", "en"):
            words_to_types(TEXT / f"{split}.{language}", folder / f"{split}.{language}")
    run(
        "fairseq-preprocess",
        *("-s", "de", "-t", "en", "--trainpref", folder / "train", "--validpref", folder / "valid"),
        *("--destdir", folder / "bin", "--joined-dictionary", "--thresholdsrc", 3),
    )
    return folder / "bin"


@pytest.fixture(scope="session")
def teacher_file(binarized, tmp_path_factory) -> Path:
    """A teacher that plain fairseq-train wrote."""
    folder = tmp_path_factory.mktemp("teacher")
    plain = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")
    train(binarized, folder, *plain, "--max-update", 60, "--encoder-embed-dim", 96)
    return folder / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def learner_file(binarized, tmp_path_factory) -> Path:
    """A learner pre-trained by plain fairseq-train."""
    folder = tmp_path_factory.mktemp("learner")
    train(binarized, folder, "--task", "translation", "--criterion", "cross_entropy")
    return folder / "checkpoint_best.pt"


@pytest.fixture
def copy_of_teacher(teacher_file, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copy(teacher_file, tmp_path / "teacher.pt"))
