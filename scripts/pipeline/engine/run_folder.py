"""The folder of a run, as far as the engine knows it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RunFolder:
    """The folder for all output of a run. Stages have their states and logs in it.

    Attributes:
        run_dir: the folder.
    """

    run_dir: Path

    def log(self, stage: str) -> Path:
        """Return the log with all output of a stage's commands."""
        return self.run_dir / "logs" / f"{stage}.log"
