"""What the tests of the package share: command lines, tasks, models and batches."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from fairseq import options, tasks
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.utils import (
    convert_namespace_to_omegaconf,
    omegaconf_no_object_check,
    overwrite_args_by_name,
)
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import DictConfig, open_dict

import ka_fairseq  # noqa: F401  registers the tasks and criterions

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "tests" / "data" / "libreoffice-help"
USER_DIR = ROOT / "ka_fairseq"
QUICK = ROOT / "tests" / "quick"
DEMO_TEACHER = ROOT / "configs" / "demo" / "teacher"


def command_line(command: str, *arguments: object, python: str = sys.executable) -> list[str]:
    """A fairseq command as a user types it, with the scripts beside an interpreter."""
    return [str(Path(python).with_name(command)), *map(str, arguments)]


def quick_line(command: str, *arguments: object) -> list[str]:
    """The same command, started as the pipeline starts it: it begins a second sooner."""
    return [str(QUICK / command), *map(str, arguments)]


def quick_path() -> str:
    """A search path on which fairseq's commands start so, before the scripts of this Python."""
    return os.pathsep.join([str(QUICK), str(Path(sys.executable).parent), os.environ["PATH"]])


def run(
    command: str,
    *arguments: object,
    check: bool = True,
    python: str = sys.executable,
    as_typed: bool = False,
) -> subprocess.CompletedProcess:
    """Run a command; one of fairseq's by :func:`quick_line`, unless as users type it."""
    quick = python == sys.executable and command.startswith("fairseq-") and not as_typed
    result = subprocess.run(
        quick_line(command, *arguments)
        if quick
        else command_line(command, *arguments, python=python),
        capture_output=True,
        text=True,
        check=False,
    )
    if check and result.returncode:
        pytest.fail(f"{command} ended with {result.returncode}:\n{result.stdout}{result.stderr}")
    return result


def example(name: str, *words: object, **env: str) -> str:
    """Run a shell script of examples/; return what it printed."""
    result = subprocess.run(
        ["bash", str(ROOT / "examples" / name), *map(str, words)],
        env={**os.environ, "PATH": quick_path(), **env},
        check=False,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-3000:]
    return result.stdout


def train_options(data: Path, save_dir: Path, *arguments: object) -> list[object]:
    """What fairseq-train is given: on the CPU, tiny, deterministic, this package as --user-dir."""
    return [
        data,
        *("--user-dir", USER_DIR, "--save-dir", save_dir, "--cpu", "--seed", 1),
        *("--arch", "transformer_tiny", "--optimizer", "adam", "--lr", 2e-3, "--dropout", 0),
        *("--max-tokens", 1000, "--max-update", 30, "--num-workers", 0),
        *("--no-epoch-checkpoints", "--log-format", "json", "--log-interval", 5),
        *arguments,
    ]


def train(
    data: Path, save_dir: Path, *arguments: object, check: bool = True, **options: object
) -> subprocess.CompletedProcess:
    """fairseq-train with :func:`train_options`: by `train_together`, or as options of `run` say."""
    words = train_options(data, save_dir, *arguments)
    if options:
        return run("fairseq-train", *words, check=check, **options)
    results = train_together(words)
    return (succeeded(results) if check else results)[0]


def language_model(width: int = 32) -> list[object]:
    """The options of a Transformer without an encoder, tiny."""
    return [
        *("--arch", "transformer_lm", "--decoder-layers", 1, "--decoder-attention-heads", 2),
        *("--decoder-embed-dim", width, "--decoder-ffn-embed-dim", width, "--dropout", 0),
    ]


def train_together(
    *option_lists: list[object], watch: Callable[[], AbstractContextManager] = nullcontext
) -> list[subprocess.CompletedProcess]:
    """fairseq-train several times at once, in processes that share one start of Python.

    They are forked from a process that has done nothing but import what fairseq-train imports,
    which takes longer than the training of a tiny model.

    Args:
        option_lists: for each process, what fairseq-train is given.
        watch: a function of a module; each process is inside of what it returns.
    """
    forking = multiprocessing.get_context("forkserver")
    # PyTorch's compiler, too: the first optimizer of a process imports it.
    forking.set_forkserver_preload(["fairseq_cli.train", "torch._dynamo", "tests.support"])
    with tempfile.TemporaryDirectory() as folder:
        numbers = range(len(option_lists))
        said = [[Path(folder, f"{number}.{end}") for end in ("out", "err")] for number in numbers]
        processes = [
            forking.Process(target=_train_here, args=([str(o) for o in options], files, watch))
            for options, files in zip(option_lists, said, strict=True)
        ]
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join(300)
        finally:
            for process in processes:
                process.kill()
                process.join()
        return [
            subprocess.CompletedProcess(
                options, process.exitcode, *(file.read_text("utf-8") for file in files)
            )
            for options, process, files in zip(option_lists, processes, said, strict=True)
        ]


def _train_here(
    options: list[str], said: list[Path], watch: Callable[[], AbstractContextManager]
) -> None:
    # Not above: importing it sets up logging, which is no business of the tests' own process.
    from fairseq_cli.train import cli_main

    for descriptor, path in enumerate(said, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    sys.argv = ["fairseq-train", *options]
    torch.set_num_threads(1)
    with watch():
        cli_main()


def succeeded(results: list[subprocess.CompletedProcess]) -> list[subprocess.CompletedProcess]:
    """The results; the test fails where one of the commands did."""
    for result in results:
        if result.returncode:
            said = result.stdout + result.stderr
            pytest.fail(f"fairseq-train ended with {result.returncode}:\n{said}")
    return results


def records(result: subprocess.CompletedProcess, kind: str) -> list[dict[str, str]]:
    """The JSON records that fairseq logged: train_inner, train or valid."""
    lines = (result.stdout + result.stderr).splitlines()
    pattern = re.compile(rf"(?:\| INFO \| {kind} \| |\[{kind}\]\[INFO\] - )(\{{.*)$")
    return [json.loads(found.group(1)) for found in map(pattern.search, lines) if found]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The model of a folder's last checkpoint."""
    return torch.load(folder / "checkpoint_last.pt", weights_only=True)["model"]


def same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Whether two models are the same to the last bit."""
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


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
    cfg = configuration(options.parse_args_and_arch(parser, command))
    return tasks.setup_task(cfg.task), cfg


_COMPOSED: dict[str, tuple[dict[str, Any], DictConfig]] = {}


def configuration(args: Namespace) -> DictConfig:
    """What fairseq makes of parsed options.

    It has Hydra compose it, for half a second; here once for all options that differ in nothing
    but those of the task's and the criterion's own, which are written into a copy.
    """
    task = TASK_DATACLASS_REGISTRY.get(args.task)
    criterion = CRITERION_DATACLASS_REGISTRY.get(args.criterion)
    own = {
        field.name
        for found in (task, criterion)
        for field in (fields(found) if found else ())
        if not str(field.default).startswith("${")  # another section's
    }
    given = vars(args)
    others = repr(sorted((name, None if name in own else value) for name, value in given.items()))
    if others not in _COMPOSED:
        _COMPOSED[others] = given, convert_namespace_to_omegaconf(args)
    first, composed = _COMPOSED[others]
    cfg = deepcopy(composed)
    if isinstance(cfg.model, Namespace):  # of all options, and the copy's is the first one's
        with omegaconf_no_object_check(), open_dict(cfg):
            cfg.model = Namespace(**(vars(cfg.model) | given))
    changed = {name: given[name] for name in own & given.keys() if given[name] != first[name]}
    overwrite_args_by_name(cfg, changed)
    return cfg


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


def fingerprint(model: dict[str, torch.Tensor]) -> str:
    """A hash of a model's weights."""
    digest = hashlib.sha256()
    for name in sorted(model):
        digest.update(name.encode() + model[name].numpy().tobytes())
    return digest.hexdigest()
