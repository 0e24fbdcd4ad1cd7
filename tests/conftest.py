"""Real text, binarized once, and a teacher trained on it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support import DEMO_TEACHER, TEXT, language_model, run, train, words_to_types

# The scripts run what is tested here, not what lies in .venv.
os.environ["PYTHON"] = sys.executable
# The kernel for a GPU runs on a CPU, where there is no GPU; Triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"


FINISHED = "tests/pipeline/finished/"


class _FilesAndAFolder(LoadFileScheduling):
    """Gives each file to one worker, and that folder to one, as its pipeline takes minutes."""

    def _split_scope(self, nodeid: str) -> str:
        return FINISHED if nodeid.startswith(FINISHED) else super()._split_scope(nodeid)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take what lasts longest first, and skip what needs a GPU where there is none.

    The quick files are left for the end, so that no worker waits long for the other.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: (not item.nodeid.startswith(FINISHED), item.path not in slow))
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadFileScheduling:
    """How pytest-xdist hands out the tests, in place of its --dist."""
    return _FilesAndAFolder(config, log)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder filled by one of pytest-xdist's workers, and read by all."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # as pytest-xdist names them

    def made_once(name: str, fill: Callable[[Path], None]) -> Path:
        folder = shared / name
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = shared / f"{name}-unfinished"
                shutil.rmtree(unfinished, ignore_errors=True)  # of a worker that failed
                unfinished.mkdir()
                fill(unfinished)
                unfinished.rename(folder)
        return folder

    return made_once


@pytest.fixture(scope="session")
def binarized(made_once) -> Path:
    """fairseq-preprocess'd German–English text with a joined dictionary."""

    def fill(folder: Path) -> None:
        for split in ("train", "valid"):
            for language in ("de", "en"):
                words_to_types(TEXT / f"{split}.{language}", folder / f"{split}.{language}")
        run(
            "fairseq-preprocess",
            *("-s", "de", "-t", "en", "--joined-dictionary", "--thresholdsrc", 3),
            *("--trainpref", folder / "train", "--validpref", folder / "valid"),
            *("--destdir", folder / "bin"),
        )

    return made_once("corpus", fill) / "bin"


@pytest.fixture(scope="session")
def teacher_file(binarized, made_once) -> Path:
    """A teacher that plain fairseq-train wrote."""

    def fill(folder: Path) -> None:
        plain = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")
        train(binarized, folder, *plain, "--max-update", 60, "--encoder-embed-dim", 96)

    return made_once("teacher", fill) / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def running_text(made_once) -> Path:
    """The English side alone, as fairseq-preprocess binarizes it for a language model."""

    def fill(folder: Path) -> None:
        for split in ("train", "valid"):
            words_to_types(TEXT / f"{split}.en", folder / split)
        run(
            "fairseq-preprocess",
            *("--only-source", "--thresholdsrc", 3, "--destdir", folder / "bin"),
            *("--trainpref", folder / "train", "--validpref", folder / "valid"),
        )

    return made_once("running-text", fill) / "bin"


@pytest.fixture(scope="session")
def lm_teacher_file(running_text, made_once) -> Path:
    """A language model that plain fairseq-train wrote."""

    def fill(folder: Path) -> None:
        plain = ("--task", "language_modeling", "--criterion", "cross_entropy")
        larger = language_model(48)
        train(running_text, folder, *plain, *larger, "--tokens-per-sample", 32, "--max-update", 60)

    return made_once("lm-teacher", fill) / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def learner_file(binarized, tmp_path_factory) -> Path:
    """A learner pre-trained by plain fairseq-train."""
    folder = tmp_path_factory.mktemp("learner")
    train(binarized, folder, "--task", "translation", "--criterion", "cross_entropy")
    return folder / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def exported_folder(made_once) -> Path:
    """The demo's teacher, which was trained well, as a folder that translates raw text."""

    def fill(folder: Path) -> None:
        # Here: tests that need no folder need no CTranslate2.
        from ka_fairseq.export import export_folder

        dictionary = DEMO_TEACHER / "dict.txt"
        export_folder(
            DEMO_TEACHER / "model.pt",
            folder / "de-en",
            dictionaries=(dictionary, dictionary),
            segmentation={
                "method": "sentencepiece",
                "model": DEMO_TEACHER / "sentencepiece.model",
            },
            quantization="float32",
        )

    return made_once("exported", fill) / "de-en"


@pytest.fixture
def copy_of_teacher(teacher_file, tmp_path) -> Path:
    """A copy to damage."""
    return Path(shutil.copy(teacher_file, tmp_path / "teacher.pt"))
