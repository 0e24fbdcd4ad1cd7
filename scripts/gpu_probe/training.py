"""Run fairseq-train in this process: fill a cache, read it, and resume a training."""

from __future__ import annotations

import contextlib
import json
import logging
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from fairseq_cli import preprocess, train
from pipeline.models.settings import REPOSITORY, USER_DIR

from .record import Record

TEXT = REPOSITORY / "tests" / "data" / "libreoffice-help"
CRITERIONS = {"bf16": "jsd_mixture", "fp16": "backward_kl", "amp": "topk_kl"}
UPDATES = 8


def run(record: Record, folder: Path) -> None:
    """In each precision, run eight updates that fill the cache and, resumed, eight that read it."""
    if record.figure("training", "a teacher of five updates", _prepare, record, folder) is None:
        return
    for precision in ("bf16",) if record.device.type == "cpu" else CRITERIONS:
        record.figure("training", precision, _train, record, folder, precision)


def _prepare(record: Record, folder: Path) -> str:
    _fairseq(
        preprocess.cli_main,
        *("--source-lang", "de", "--target-lang", "en", "--joined-dictionary"),
        *("--trainpref", TEXT / "valid", "--validpref", TEXT / "test", "--thresholdsrc", 3),
        *("--destdir", folder / "data"),
    )
    plain = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")
    losses = _updates(record, folder, "teacher", *plain, "--max-update", 5)
    return f"{losses[-1][1]:.2f} bits a token"


def _train(record: Record, folder: Path, precision: str) -> dict[str, str]:
    """Train, stop, and resume.

    Raises:
        AssertionError: a loss is not finite, or the training resumed at another update. Or an
            answer read from the cache differs from the stored answer.
    """
    words = [
        *(f"--{precision}", "--task", "translation_with_teacher", "--label-smoothing", 0.1),
        *("--teacher-path", folder / "teacher" / "checkpoint_last.pt"),
        *("--teacher-data", folder / "data", "--criterion", CRITERIONS[precision]),
        *("--teacher-cache", folder / f"cache-{precision}", "--keep-last-epochs", 1),
    ]
    rounds = {"filled": UPDATES, "read": 2 * UPDATES}
    found = {
        name: _updates(record, folder, precision, *words, "--max-update", last)
        for name, last in rounds.items()
    }
    every = [loss for losses in found.values() for _, loss in losses]
    assert all(map(math.isfinite, every)), every
    (last, _), (first, _) = found["filled"][-1], found["read"][0]
    assert (last, first) == (UPDATES, UPDATES + 1), f"resumed with update {first} after {last}"
    return {name: f"{losses[-1][1]:.2f} bits" for name, losses in found.items()}


def _updates(record: Record, folder: Path, name: str, *words: object) -> list[tuple[int, float]]:
    """Return each update's number and loss."""
    with _logged() as said:
        _fairseq(
            train.cli_main,
            *(folder / "data", "--user-dir", USER_DIR, "--save-dir", folder / name),
            *("--seed", 1, "--num-workers", 0, "--distributed-world-size", 1),
            *(("--cpu",) if record.device.type == "cpu" else ()),
            *("--arch", "transformer_tiny", "--dropout", 0, "--optimizer", "adam", "--lr", 1e-3),
            *("--max-tokens", 600, "--required-batch-size-multiple", 1, "--no-epoch-checkpoints"),
            *("--log-format", "json", "--log-interval", 1, "--disable-validation", *words),
        )
    return [(int(line["num_updates"]), float(line["loss"])) for line in said]


def _fairseq(command: Any, *words: object) -> None:
    before = sys.argv
    sys.argv = ["fairseq", *map(str, words)]
    try:
        command()
    finally:
        sys.argv = before
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class _Updates(logging.Handler):
    """Keep fairseq's log of single updates."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[dict[str, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "train_inner":  # the logger's name while fairseq logs an update
            with contextlib.suppress(ValueError):
                self.lines.append(json.loads(record.getMessage()))


@contextlib.contextmanager
def _logged() -> Iterator[list[dict[str, str]]]:
    handler, logger = _Updates(), logging.getLogger("fairseq.logging.progress_bar")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
