"""Two fine-tunings with a checkpoint for each epoch, trained by the command line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils

from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run, find_run
from tests.support import USER_DIR, run

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
def trained(binarized, teacher_file, tmp_path_factory) -> Trained:
    folder = tmp_path_factory.mktemp("runs")

    def train(name: str, *arguments: object) -> Path:
        run(
            "fairseq-train",
            *(binarized, "--user-dir", USER_DIR, "--save-dir", folder / name, "--cpu"),
            *("--arch", "transformer_tiny", "--optimizer", "adam", "--lr", 3e-3, "--seed", 1),
            *("--max-tokens", 3000, "--num-workers", 0, "--max-epoch", EPOCHS),
            *("--no-last-checkpoints", "--no-save-optimizer-state"),
            *arguments,
        )
        return folder / name

    learner = train("learner", "--criterion", "cross_entropy")
    start = learner / f"checkpoint{EPOCHS}.pt"
    fine_tuning = (
        *("--task", "translation_with_teacher", "--teacher-path", teacher_file),
        *("--restore-file", start, "--reset-optimizer", "--reset-dataloader"),
        *("--reset-meters", "--reset-lr-scheduler"),
    )
    criterions = {"KD": "forward_kl", "KA": "backward_kl"}
    # Side by side: they take a core each, and start slowly.
    with ThreadPoolExecutor(2) as pool:
        waiting = {
            name: pool.submit(train, name, "--criterion", criterion, *fine_tuning)
            for name, criterion in criterions.items()
        }
    folders = {name: task.result() for name, task in waiting.items()}
    return Trained(binarized, teacher_file, start, folders)


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
