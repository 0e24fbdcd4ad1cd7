"""What the tests of the package share: command lines, tasks, models and batches."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import ka_fairseq  # noqa: F401  registers the tasks and criterions

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "tests" / "data" / "libreoffice-help"
USER_DIR = ROOT / "ka_fairseq"


def run(
    command: str, *arguments: object, check: bool = True, python: str = sys.executable
) -> subprocess.CompletedProcess:
    """Run a fairseq command as a user does, with the scripts beside an interpreter."""
    program = Path(python).with_name(command)
    result = subprocess.run(
        [str(program), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if check and result.returncode:
        pytest.fail(f"{command} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result


def train(data: Path, save_dir: Path, *arguments: object, **options: object):
    """fairseq-train on the CPU, tiny, deterministic, with this package as --user-dir."""
    return run(
        "fairseq-train",
        data,
        *("--user-dir", USER_DIR, "--save-dir", save_dir, "--cpu", "--seed", 1),
        *("--arch", "transformer_tiny", "--optimizer", "adam", "--lr", 2e-3, "--dropout", 0),
        *("--max-tokens", 1000, "--max-update", 30, "--num-workers", 0),
        *("--no-epoch-checkpoints", "--log-format", "json", "--log-interval", 5),
        *arguments,
        **options,
    )


def words_to_types(source: Path, destination: Path) -> None:
    """A tokenization that needs no model: words and punctuation apart, lower-cased."""
    lines = source.read_text(encoding="utf-8").splitlines()
    tokenized = (" ".join(re.findall(r"\w+|[^\w\s]", line.lower())) for line in lines)
    destination.write_text("".join(f"{line}\n" for line in tokenized), encoding="utf-8")


def make_task(data: Path, *arguments: object):
    """A task, and the configuration it stands in, from a real command line."""
    parser = options.get_training_parser()
    command = [str(data), "--cpu", *map(str, arguments)]
    if "--arch" not in command:
        command += ["--arch", "transformer_tiny", "--dropout", "0"]
    args = options.parse_args_and_arch(parser, command)
    cfg = convert_namespace_to_omegaconf(args)
    return tasks.setup_task(cfg.task), cfg


def make_model(task, cfg, seed: int = 1):
    """The learner, with weights that depend on the seed alone."""
    torch.manual_seed(seed)
    return task.build_model(cfg.model)


def make_batch(task, size: int = 4, split: str = "valid") -> dict:
    """The first sentences of a split, as fairseq collates them: padded on both sides."""
    if split not in task.datasets:
        task.load_dataset(split)
    dataset = task.dataset(split)
    return dataset.collater([dataset[index] for index in range(size)])
