"""A run of fairseq-train: its name and its checkpoints by epoch."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ka_fairseq.errors import UserError

EPOCH_CHECKPOINT = re.compile(r"checkpoint(\d+)\.pt")


@dataclass(frozen=True)
class Run:
    """What a figure draws as one line.

    Attributes:
        name: what the figure calls it.
        checkpoints: epoch → file, in order of the epochs.
    """

    name: str
    checkpoints: Mapping[int, Path]

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.checkpoints[max(self.checkpoints)]


def find_run(name: str, folder: Path, start: Path | None = None) -> Run:
    """The run whose ``--save-dir`` is a folder.

    Args:
        name: what the figures call it.
        folder: where the epoch checkpoints are: checkpoint1.pt, checkpoint2.pt, …
        start: the checkpoint that the run was fine-tuned from; it becomes epoch 0.

    Raises:
        UserError: no such folder, or no epoch checkpoint in it.
    """
    if not folder.is_dir():
        raise UserError(f"the run {name} has no folder {folder}: check the path")
    found = {
        int(match.group(1)): file
        for file in folder.iterdir()
        if (match := EPOCH_CHECKPOINT.fullmatch(file.name))
    }
    if not found:
        raise UserError(
            f"no checkpoint1.pt, checkpoint2.pt, … in {folder}: train without "
            f"--no-epoch-checkpoints (and without --keep-last-epochs) to keep one for each epoch"
        )
    if start is not None:
        found[0] = start
    return Run(name, dict(sorted(found.items())))


def spread(run: Run, most: int) -> Run:
    """The run with at most ``most`` (≥ 2) of its epochs, evenly spread, the first and last too."""
    epochs = list(run.checkpoints)
    if len(epochs) > most:
        step = (len(epochs) - 1) / (most - 1)
        epochs = [epochs[round(index * step)] for index in range(most)]
    return Run(run.name, {epoch: run.checkpoints[epoch] for epoch in epochs})


def parse_named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """``NAME=PATH`` arguments by name.

    Raises:
        UserError: another form, or a name twice.
    """
    named: dict[str, Path] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UserError(f"--run {text!r} is not of the form NAME=PATH, such as KA=runs/ka")
        if name in named:
            raise UserError(f"two runs are called {name!r}: give each --run its own name")
        named[name] = Path(path)
    return named
