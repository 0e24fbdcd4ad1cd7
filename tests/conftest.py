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
from hypothesis import settings

import ka_fairseq  # noqa: F401  before all that imports fairseq: it does so in half the time
from tests.support import (
    DEMO_TEACHER,
    TEXT,
    Training,
    language_model,
    make_training,
    run,
    train,
    words_to_types,
)

pytest_plugins = ["tests.skips"]

# The scripts run what is tested here, not what lies in .venv.
os.environ["PYTHON"] = sys.executable
# The kernel for a GPU runs on a CPU, where there is no GPU; Triton reads this when it is imported.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

# The same examples in every run; pytest --hypothesis-profile=all looks at more of them.
settings.register_profile("change", derandomize=True, deadline=None, max_examples=60)
settings.register_profile("all", settings.get_profile("change"), max_examples=400)
settings.load_profile("change")


# What tests the scripts, which need a later Python than the plugin.
OF_SCRIPTS = ["pipeline", "tools", "docs", "unit/export/test_folder.py"]
collect_ignore = OF_SCRIPTS if sys.version_info < (3, 11) else []

# Files that start from the finished pipeline, as far as their order matters: the one with which it
# is made, then the longest.
FINISHED = Path(__file__).parent / "pipeline" / "finished"
ON_FINISHED = ("test_end_to_end.py", "test_killed.py", "test_translated.py")


@pytest.hookimpl(trylast=True)  # of what is left once markers have deselected the rest
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take what lasts longest first, and skip what needs a GPU where there is none.

    The finished pipeline takes minutes, so a file that has it made comes first. The others that
    start from it come after all that trains, so that no worker waits for it. The quick files are
    left for the end, so that no worker waits long for the other.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}

    def turn(item: pytest.Item) -> tuple[int, int]:
        if item.path.parent == FINISHED:
            names = [*ON_FINISHED, item.path.name]
            place = names.index(item.path.name)
            return (2 if place else 0), place
        return (1 if item.path in slow else 3), 0

    items.sort(key=turn)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A folder filled by one of pytest-xdist's workers, and read by all."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if base.name.startswith("popen-") else base  # as pytest-xdist names them

    def made_once(name: str, fill: Callable[[Path], None]) -> Path:
        folder = shared / name
        with FileLock(f"{folder}.lock"):
            made = Path(f"{folder}.made")
            if not made.exists():  # a folder alone is that of a worker that failed
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                made.touch()
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
def learner_file(binarized, made_once) -> Path:
    """A learner pre-trained by plain fairseq-train."""

    def fill(folder: Path) -> None:
        train(binarized, folder, "--task", "translation", "--criterion", "cross_entropy")

    return made_once("learner", fill) / "checkpoint_best.pt"


@pytest.fixture(scope="session")
def distillation(binarized, teacher_file) -> Callable[..., Training]:
    """Task, learner and criterion of a translation: by the criterion's name, and options."""

    def distillation(criterion: str, *arguments: object, data: Path = binarized) -> Training:
        task = ("--task", "translation_with_teacher", "--teacher-path", teacher_file)
        return make_training(data, *task, "--criterion", criterion, *arguments)

    return distillation


@pytest.fixture(scope="session")
def lm_distillation(running_text, lm_teacher_file) -> Callable[..., Training]:
    """The same of a language model."""

    def lm_distillation(criterion: str, *arguments: object, data: Path = running_text) -> Training:
        task = ("--task", "language_modeling_with_teacher", "--tokens-per-sample", 32)
        teacher = ("--teacher-path", lm_teacher_file, *language_model())
        return make_training(data, *task, *teacher, "--criterion", criterion, *arguments)

    return lm_distillation


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
