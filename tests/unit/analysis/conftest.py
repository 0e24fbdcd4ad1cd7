"""Two fine-tunings with a checkpoint for each epoch, trained by the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run, find_run
from tests.support import succeeded, train_options, train_together

EPOCHS = 3


def pytest_collection_modifyitems(items):
    for item in items:
        if "trained" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


@dataclass(frozen=True)
class Trained:
    """What the commands are tried on."""

    data: Path
    teacher: Path
    start: Path
    folders: dict[str, Path]

    @property
    def runs(self) -> list[Run]:
        return [find_run(name, folder, self.start) for name, folder in self.folders.items()]

    @property
    def run_options(self) -> list[str]:
        named = [f"--run={name}={folder}" for name, folder in self.folders.items()]
        return [*named, f"--start={self.start}", f"--data={self.data}", "--cpu"]

    def corpus(self, split: str = "valid", max_tokens: int = 4000) -> Corpus:
        device = torch.device("cpu")
        return Corpus.open(self.data, split, self.start, device=device, max_tokens=max_tokens)


@pytest.fixture(scope="session")
def trained(binarized, teacher_file, made_once) -> Trained:
    """KD and KA from one learner."""
    start = f"checkpoint{EPOCHS}.pt"

    def options(folder: Path, *arguments: object) -> list[object]:
        return train_options(
            *(binarized, folder, "--lr", 3e-3, "--max-tokens", 3000, "--max-update", 0),
            *("--max-epoch", EPOCHS, "--no-last-checkpoints", "--no-save-optimizer-state"),
            *arguments,
        )

    def fill(folder: Path) -> None:
        learner = options(folder / "learner", "--criterion", "cross_entropy")
        succeeded(train_together(keeping_epochs(learner)))
        fine_tuning = (
            *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
            *("--restore-file", folder / "learner" / start, "--reset-optimizer"),
            *("--reset-dataloader", "--reset-meters", "--reset-lr-scheduler"),
        )
        both = (
            options(folder / name, "--criterion", criterion, *fine_tuning)
            for name, criterion in (("KD", "forward_kl"), ("KA", "backward_kl"))
        )
        succeeded(train_together(*map(keeping_epochs, both)))

    folder = made_once("analysed-runs", fill)
    runs = {name: folder / name for name in ("KD", "KA")}
    return Trained(binarized, teacher_file, folder / "learner" / start, runs)


def keeping_epochs(options: list[object]) -> list[object]:
    """The same, with a checkpoint for each epoch."""
    return [option for option in options if option != "--no-epoch-checkpoints"]


@pytest.fixture(scope="session")
def corpus(trained) -> Corpus:
    return trained.corpus()


@pytest.fixture(scope="session")
def plain_lprobs(corpus):
    """A second way to the numbers: fairseq's own loading and softmax, one sentence at a time."""
    models = {}

    def lprobs(file: Path, sentence: int) -> np.ndarray:
        if file not in models:
            (model,), _ = checkpoint_utils.load_model_ensemble([str(file)], task=corpus.task)
            models[file] = model.eval().double()
        sample = corpus.dataset.collater([corpus.dataset[sentence]])
        with torch.no_grad():
            output = models[file](**sample["net_input"])
        logits = output[0][0].numpy()
        assert logits.dtype == np.float64
        return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)

    return lprobs


@pytest.fixture(scope="session")
def all_lprobs(corpus, plain_lprobs):
    """Those of a whole split, one after the other; only a test can afford it."""

    def lprobs(file: Path, sentences: np.ndarray | None = None) -> np.ndarray:
        chosen = corpus.all_sentences() if sentences is None else sentences
        return np.concatenate([plain_lprobs(file, int(sentence)) for sentence in chosen])

    return lprobs
