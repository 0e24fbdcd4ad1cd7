"""A user's corpus, configs and checkout of this repository, in folders that need quoting."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.pipeline import own_configs
from tests.support import ROOT, TEXT, quick_line

NAME = 'größe 1, "d\'été"'
MODELS = ["teacher", "learner", "control", "ka", "seq_kd"]
BEAMS = (2, 1)
# One with a teacher beside it, and one on a teacher's text. The teacher is half as wide as the
# demo's and half as deep. The learner's rate is lower than the demo's, so that fine-tunings begin
# at some distance from so poor a teacher.
MODELS_OF_PAIR = {
    "teacher": {
        "settings": {
            **{"model.encoder_layers": 2, "model.decoder_layers": 1},
            **{f"model.{side}_embed_dim": 96 for side in ("encoder", "decoder")},
            **{f"model.{side}_ffn_embed_dim": 192 for side in ("encoder", "decoder")},
        }
    },
    "learner": {"settings": {"optimization.lr": [0.005]}},
    **{name: {"default": False} for name in ("kd", "mixture", "topk")},
    "seq_kd": {"default": True},
}
# Small enough for a test; an epoch and a bit, and records that straddle the epoch's end.
QUICK = {
    "text": {"most": {"valid": 40, "test": 40}},
    "segmentation": {"vocab_size": 400},
    "translate": {
        **{"beam": 2, "n_best": 2, "shard": 120, "max_len_a": 0.0, "max_len_b": 20},
        "quantization": "float32",  # as fairseq-generate translates
        "filters": {"max_repeats": None},  # all that so poor a teacher says is repetition
    },
    "training": {
        "optimization.max_update": 40,
        "optimization.max_epoch": 9,
        "common.log_interval": 5,
        "dataset.max_tokens": 600,
        "task.eval_bleu_args": '{"beam": 1, "max_len_a": 0, "max_len_b": 20}',
    },
}


@dataclass(frozen=True)
class Project:
    """Where it is, and its command lines.

    Attributes:
        home: holds the corpus, configs and the checkout.
        runs: name of the folder for output.
        name: of the run.
        settings: another folder with configs than `home` has, or None.
        corpus: another folder with text than `home` has, or None.
    """

    home: Path
    runs: str = "runs"
    name: str = NAME
    settings: Path | None = None
    corpus: Path | None = None

    @property
    def checkout(self) -> Path:
        """The copy of this repository."""
        return self.home / "check out"

    @property
    def configs(self) -> Path:
        """The demo's, with less in their section `quick`."""
        return self.settings or self.home / "configs"

    @property
    def data(self) -> Path:
        """The user's own corpus."""
        return self.corpus or self.home / "mein Körper"

    @property
    def run_dir(self) -> Path:
        """All output of the pipeline."""
        return self.home / self.runs / f"{self.name}-quick"

    @property
    def trace(self) -> Path:
        """What the run that was not interrupted did, one after the other."""
        return self.home / "trace"

    def log(self, stage: str) -> Path:
        """What a stage printed."""
        return self.run_dir / "logs" / f"{stage}.log"

    def command(self, *words: object) -> list[str]:
        """The pipeline on this corpus; `words` are stages and further options."""
        own = ("--data", self.data, "--src", "de", "--tgt", "en", "--name", self.name)
        paths = ("--config", self.configs, "--runs", self.home / self.runs)
        script = self.checkout / "scripts" / "pipeline.sh"
        return [str(word) for word in (script, *own, *paths, "--quick", *words)]

    def pipeline(self, *words: object, **env: str) -> str:
        """Run it to its end, and return what it printed."""
        return self.script(*self.command(*words)[1:], script="pipeline.sh", **env)

    def script(self, *words: object, script: str, **env: str) -> str:
        """Run one of the scripts to its end, and return what it printed."""
        result = run([self.checkout / "scripts" / script, *words], **env)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def fine_tuning(self, folder: Path) -> list[str]:
        """fairseq-train on the project's text, with its teacher and its learner."""
        learner = {
            **{f"{side}-layers": 1 for side in ("encoder", "decoder")},
            **{f"{side}-embed-dim": 64 for side in ("encoder", "decoder")},
            **{f"{side}-ffn-embed-dim": 256 for side in ("encoder", "decoder")},
            **{f"{side}-attention-heads": 2 for side in ("encoder", "decoder")},
        }
        options = {
            **learner,
            "user-dir": self.checkout / "ka_fairseq",
            "task": "translation_with_teacher",
            "teacher-path": self.run_dir / "teacher" / "checkpoint_best.pt",
            "criterion": "jsd_mixture",
            "finetune-from-model": self.run_dir / "learner" / "checkpoint_best.pt",
            "arch": "transformer",
            "dropout": 0.1,
            "optimizer": "adam",
            "lr": 0.003,
            "max-tokens": 600,
            "max-update": 40,
            "update-epoch-batch-itr": "True",
            "required-batch-size-multiple": 1,
            "save-interval-updates": 4,
            "keep-interval-updates": 1,
            "log-format": "json",
            "log-interval": 3,
            "save-dir": folder,
            "num-workers": 0,
        }
        flags = ["--cpu", "--share-all-embeddings"]
        flags += ["--encoder-normalize-before", "--decoder-normalize-before"]
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        return quick_line("fairseq-train", self.run_dir / "bin", *flags, *words)

    def fine_tune(self, folder: Path, **env: str) -> str:
        """Run that to its end, and return what it printed."""
        result = run(self.fine_tuning(folder), **env)
        assert result.returncode == 0, result.stderr
        return result.stdout + result.stderr

    def copied(self, runs: str, *parts: str, name: str = NAME) -> Project:
        """Return a project with another folder for output, which has what is there from this one.

        Args:
            runs: name of that folder; each test has its own.
            parts: files and folders of the run; all of it where none is named.
            name: of the run.
        """
        project = replace(self, runs=runs, name=name)
        for part in parts or (".",):
            source, target = self.run_dir / part, project.run_dir / part
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        return project

    def configured(self, folder: Path, models: dict, **quick: object) -> Project:
        """Return a project with further models in its pair.yaml, and other settings under `quick`.

        Args:
            folder: gets the configs.
            models: what the list of models has besides.
            quick: section → what it has besides.
        """
        configs = shutil.copytree(self.configs, folder / 'Jörgs "eigene"')
        with own_configs.changing(configs) as content:
            content["models"] |= models
            for section, changes in quick.items():
                content["quick"][section] |= changes
        return replace(self, settings=configs)


BINARIZED = ("bin", "text", "state/prepare.json", "state/binarize.json")
"""What a run has before anything is trained."""


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuning by fairseq-train that was not interrupted.

    Attributes:
        folder: its checkpoints.
        printed: all that it said.
        trace: what it did, one after the other.
    """

    folder: Path
    printed: str
    trace: Path


def make(home: Path) -> Project:
    """Write the files of a project into a folder."""
    project = Project(home)
    ignored = shutil.ignore_patterns("__pycache__")
    for part in ("configs", "examples", "ka_fairseq", "scripts"):
        shutil.copytree(ROOT / part, project.checkout / part, ignore=ignored)
    for file in (ROOT / "pyproject.toml", *ROOT.glob("constraints*.txt")):
        shutil.copy(file, project.checkout)
    with own_configs.changing(own_configs.copied("demo", project.configs)) as content:
        content |= {"quick": QUICK, "models": MODELS_OF_PAIR}
        content["decoding"]["beams"] = list(BEAMS)
    shutil.copytree(TEXT, project.data)
    return project


def run(
    command: Sequence[object], before: Callable[[], None] | None = None, **env: str
) -> subprocess.CompletedProcess:
    """Run a command; `before` is called in the new process."""
    return subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env={**environment(), **env},
        preexec_fn=before,
        check=False,
    )


def error_of(result: subprocess.CompletedProcess) -> str:
    """The line that a command ended with."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    line = result.stderr.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def environment() -> dict[str, str]:
    """The same interpreter for the scripts as for the tests, and the same sums on any machine."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
