"""Where the files of a run are: what the stages read, and what they write."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.run_folder import RunFolder


@dataclass(frozen=True)
class RunFiles(RunFolder):
    """The folders of a run.

    Attributes:
        run_dir: the folder for all output.
        config_dir: the folder with ``pair.yaml``.
        hydra_dir: the folder with the Hydra configs: `config_dir`, or the folder that `configs` in
            ``pair.yaml`` names.
        data_dir: the user's own corpus, or None for the text that `text` in ``pair.yaml`` names.
        archives_dir: the user's folder with a release's archives, or None to download them.
    """

    config_dir: Path
    hydra_dir: Path
    data_dir: Path | None = None
    archives_dir: Path | None = None

    @property
    def text_dir(self) -> Path:
        """Plain text, made by `prepare`."""
        return self.run_dir / "text"

    @property
    def bin_dir(self) -> Path:
        """The data-bin, made by `binarize`."""
        return self.run_dir / "bin"

    @property
    def evaluate_dir(self) -> Path:
        """Translations of the test set and their scores."""
        return self.run_dir / "evaluate"

    @property
    def export_dir(self) -> Path:
        """The parent of the export folders: one for each model, with all that translating needs."""
        return self.run_dir / "export"

    def model_dir(self, training: str) -> Path:
        """Return the folder of a training's checkpoints."""
        return self.run_dir / training

    def best_checkpoint(self, training: str) -> Path:
        """Return the checkpoint with the best validation score."""
        return self.model_dir(training) / "checkpoint_best.pt"

    def last_checkpoint(self, training: str) -> Path:
        """Return the checkpoint that an interrupted training continues from."""
        return self.model_dir(training) / "checkpoint_last.pt"

    def model(self, training: str) -> Path:
        """Return the best checkpoint, reduced to what translating needs."""
        return self.model_dir(training) / "model.pt"

    def teacher_cache(self, training: str, text: str = "") -> Path:
        """Return the folder of a teacher's cached answers; a redone teacher loses them.

        Args:
            training: the teacher's training.
            text: the name of the answered text; empty: the references.
        """
        return self.model_dir(training) / (f"cache-{text}" if text else "cache")
