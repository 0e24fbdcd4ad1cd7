"""Find the epoch checkpoints of runs of fairseq-train."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ka_fairseq.errors import UserError

EPOCH_CHECKPOINT = re.compile(r"checkpoint(\d+)\.pt")


@dataclass(frozen=True)
class Run:
    """A run of fairseq-train, drawn as one line in a figure.

    Attributes:
        name: the run's name in the figure.
        checkpoints: epoch → file, in order of the epochs.
    """

    name: str
    checkpoints: Mapping[int, Path]

    @property
    def last(self) -> Path:
        """The checkpoint of the last epoch."""
        return self.checkpoints[max(self.checkpoints)]


def find_run(name: str, folder: Path, start: Path | None = None) -> Run:
    """Return the run with a folder as its ``--save-dir``.

    Args:
        name: the run's name in the figures.
        folder: the folder with the epoch checkpoints: checkpoint1.pt, checkpoint2.pt, …
        start: the checkpoint that the run was fine-tuned from; it becomes epoch 0.

    Raises:
        UserError: the folder is missing, or has no epoch checkpoint.
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
    """Return a run with at most ``most`` (≥ 2) epochs, evenly spread, with the first and last."""
    epochs = list(run.checkpoints)
    if len(epochs) > most:
        step = (len(epochs) - 1) / (most - 1)
        epochs = [epochs[round(index * step)] for index in range(most)]
    return Run(run.name, {epoch: run.checkpoints[epoch] for epoch in epochs})


def parse_named_paths(texts: Sequence[str]) -> dict[str, Path]:
    """Return the paths of ``NAME=PATH`` arguments by name.

    Raises:
        UserError: an argument has another form, or a name occurs twice.
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
