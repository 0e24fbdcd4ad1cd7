"""What the tests of the package share: command lines, tasks, models and batches."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from fairseq import options, tasks
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.dataclass.utils import (
    convert_namespace_to_omegaconf,
    omegaconf_no_object_check,
    overwrite_args_by_name,
)
from fairseq.logging import metrics
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from omegaconf import DictConfig, open_dict

import ka_fairseq  # noqa: F401  registers the tasks and criterions
from ka_fairseq.loss.projection import Projection
from tests import forking

ROOT = Path(__file__).resolve().parents[1]
TEXT = ROOT / "tests" / "data" / "libreoffice-help"
USER_DIR = ROOT / "ka_fairseq"
DEMO_TEACHER = ROOT / "configs" / "demo" / "teacher"


def command_line(command: str, *arguments: object, python: str = sys.executable) -> list[str]:
    """A fairseq command as a user types it, with the scripts beside an interpreter."""
    return [str(Path(python).with_name(command)), *map(str, arguments)]


def quick_line(command: str, *arguments: object) -> list[str]:
    """The same command, started as the pipeline starts it: it begins seconds sooner."""
    module = f"fairseq_cli.{command.removeprefix('fairseq-').replace('-', '_')}"
    return [sys.executable, str(forking.QUICK_START), module, *map(str, arguments)]


def quick_path() -> str:
    """A search path on which Python's commands are forked, before the scripts of this Python."""
    own = [str(forking.folder_of_commands()), str(Path(sys.executable).parent)]
    return os.pathsep.join([*own, os.environ["PATH"]])


def run(
    command: str,
    *arguments: object,
    check: bool = True,
    python: str = sys.executable,
    as_typed: bool = False,
) -> subprocess.CompletedProcess:
    """Run one command line.

    Args:
        command: one of fairseq's, or ``python``, whose arguments begin with ``-m MODULE``.
        arguments: of the command.
        check: fail the test where the command fails.
        python: the interpreter; another one than this starts a process of its own.
        as_typed: start the process that a user starts, which imports all anew, for seconds, and
            this package only where the command asks for it; else :func:`run_together` forks it.
    """
    if as_typed or python != sys.executable:
        result = subprocess.run(
            command_line(command, *arguments, python=python),
            capture_output=True,
            text=True,
            check=False,
        )
        return succeeded([result])[0] if check else result
    results = run_together([command, *arguments])
    return (succeeded(results) if check else results)[0]


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


Watch = Callable[[], AbstractContextManager]


def train_together(
    *option_lists: list[object], watch: Watch = nullcontext
) -> list[subprocess.CompletedProcess]:
    """fairseq-train several times at once; see :func:`run_together`."""
    return run_together(*(["fairseq-train", *options] for options in option_lists), watch=watch)


def run_together(
    *commands: list[object], watch: Watch = nullcontext
) -> list[subprocess.CompletedProcess]:
    """Run commands side by side, in processes that share one start of Python.

    They are forked (:mod:`tests.forking`).

    Args:
        commands: of fairseq, or ``python -m MODULE``, each with its arguments.
        watch: a function of a module; each process is inside of what it returns.
    """
    context = forking.context()
    with tempfile.TemporaryDirectory() as folder:
        numbers = range(len(commands))
        said = [[Path(folder, f"{number}.{end}") for end in ("out", "err")] for number in numbers]
        processes = [
            context.Process(target=_run_here, args=([str(word) for word in words], files, watch))
            for words, files in zip(commands, said, strict=True)
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
                words, process.exitcode, *(file.read_text("utf-8") for file in files)
            )
            for words, process, files in zip(commands, processes, said, strict=True)
        ]


def _run_here(words: list[str], said: list[Path], watch: Watch) -> None:
    for descriptor, path in enumerate(said, start=1):
        with path.open("wb") as file:
            os.dup2(file.fileno(), descriptor)
    with watch():
        forking.run_here(words)


def succeeded(results: list[subprocess.CompletedProcess]) -> list[subprocess.CompletedProcess]:
    """The results; the test fails where one of the commands did."""
    for result in results:
        if result.returncode:
            said = result.stdout + result.stderr
            pytest.fail(f"{result.args} ended with {result.returncode}:\n{said}")
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
    return collate(task, range(size), split)


def collate(task, indices: Iterable[int], split: str = "valid") -> dict:
    """These samples of a split that is loaded, as one batch."""
    dataset = task.dataset(split)
    return dataset.collater([dataset[index] for index in indices])


class Training(NamedTuple):
    """What a training step needs, but for the batch and the optimizer."""

    task: Any
    model: Any
    criterion: Any

    def with_batch(self) -> tuple[Any, Any, Any, dict]:
        """The same and a batch; what a teacher cache has stored by now comes with the batch."""
        return *self, make_batch(self.task)


def make_training(data: Path, *arguments: object) -> Training:
    """Task, learner and criterion from a real command line."""
    task, cfg = make_task(data, *arguments)
    return Training(task, make_model(task, cfg), task.build_criterion(cfg.criterion))


def projection(
    seed: int,
    rows: int,
    width: int,
    vocabulary: int,
    dtype: torch.dtype = torch.float64,
    bias: bool = True,
) -> Projection:
    """Random hidden states of some positions, and an output projection; all of them leaves."""
    generator = torch.Generator().manual_seed(seed)
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.float64)
    tensors = [draw(rows, width), draw(vocabulary, width), draw(vocabulary) if bias else None]
    return Projection(*(t if t is None else t.to(dtype).requires_grad_() for t in tensors))


def random_lprobs(
    rows: int = 6,
    vocabulary: int = 12,
    scale: float = 2.5,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> torch.Tensor:
    """A learner's and a teacher's log-probabilities, of shape (2, rows, vocabulary)."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, rows, vocabulary, generator=generator, dtype=torch.float64) * scale
    return logits.to(dtype).log_softmax(-1)


def whole_logits(output: Projection) -> torch.Tensor:
    """The logits of all positions at once, with a graph; what the chunked loss never makes."""
    return torch.nn.functional.linear(*output.inputs)


def log_probs(model, sample: dict) -> torch.Tensor:
    """What a model says of a batch, by fairseq's own softmax."""
    return model.get_normalized_probs(model(**sample["net_input"]), log_probs=True)


def gradient_of(model) -> torch.Tensor:
    """The gradients of all parameters in a row."""
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])


def logged(criterion, *logs: dict) -> dict[str, float]:
    """What fairseq logs of the logging outputs of some workers."""
    with metrics.aggregate(new_root=True) as aggregate:
        criterion.reduce_metrics(list(logs))
    return aggregate.get_smoothed_values()


def needs_float16(device: str) -> None:
    """Skip the test where torch cannot multiply in float16: before 2.0, on a CPU."""
    square = torch.ones(2, 2, dtype=torch.float16, device=device)
    try:
        square @ square
    except RuntimeError as error:
        pytest.skip(f"torch {torch.__version__} has no float16 on this device: {error}")


def fingerprint(model: dict[str, torch.Tensor]) -> str:
    """A hash of a model's weights."""
    digest = hashlib.sha256()
    for name in sorted(model):
        digest.update(name.encode() + model[name].numpy().tobytes())
    return digest.hexdigest()
