"""Run the measurements of a setting, one process each, with interleaved repeats."""

from __future__ import annotations

import functools
import json
import math
import os
import random
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf
from pipeline.engine import commands
from pipeline.engine.errors import PipelineError
from pipeline.models.settings import REPOSITORY
from tqdm import tqdm

from benchmark import corpus, sizes
from benchmark.measure import Request
from ka_fairseq.errors import UserError

SEED = 1


class Case(NamedTuple):
    """A row of the table; a row without a criterion of this package has no variant."""

    criterion: str
    variant: str = ""

    def __str__(self) -> str:
        return " ".join(filter(None, self))


CROSS_ENTROPY, TEACHER = Case("cross_entropy"), Case("teacher")


@dataclass(frozen=True)
class Setting:
    """The sizes of a measurement.

    Attributes:
        pair: a key of :data:`benchmark.sizes.PAIRS`.
        types: V.
        tokens: tokens a batch, counted like ``--max-tokens``.
        batches: the number of different batches.
        precision: the precision of the models, and of the teacher cache.
        device: "cpu" or "cuda".
        quick: tiny models.
        repeats: processes of each case.
        steps: timed steps of a process.
        warm_up: steps before the timed steps.
        threads: torch's threads on a CPU; 0 leaves the default.
        tuned: use the pipeline's variables for threads and memory.
    """

    pair: str
    types: int
    tokens: int
    batches: int
    precision: str = "fp32"
    device: str = "cpu"
    quick: bool = False
    repeats: int = 1
    steps: int = 1
    warm_up: int = 0
    threads: int = 0
    tuned: bool = True


@functools.cache
def environment(tuned: bool, threads: int) -> dict[str, str]:
    """Return the variables of a setting's processes, the same ones for a whole run."""
    variables = {"OMP_NUM_THREADS": str(threads)} if threads else {}
    found = commands.threads_and_memory(threads) if tuned else dict(os.environ)
    paths = [str(REPOSITORY / "scripts"), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return found | variables | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


def cases_of(criterions: Iterable[str], variants: Iterable[str]) -> list[Case]:
    """Return each criterion's variants.

    Only :data:`benchmark.sizes.CRITERIONS` have a plain reference. A criterion without a teacher
    has no variants.
    """
    variants = list(variants)
    cases = []
    for criterion in criterions:
        if criterion == sizes.WITHOUT_TEACHER:
            cases.append(Case(criterion))
            continue
        plain = criterion in sizes.CRITERIONS
        cases += [Case(criterion, name) for name in variants if plain or name != "plain"]
    return cases


class Workspace:
    """The files that the measurements of a setting share: data, the teacher and its cache."""

    def __init__(self, folder: Path, setting: Setting) -> None:
        """Write the data and a teacher with random weights to the folder."""
        pair = sizes.PAIRS[setting.pair]
        generator = np.random.default_rng(SEED)
        lengths = corpus.draw_lengths(pair.lengths, setting.tokens, generator)
        chosen = corpus.choose_batches(lengths, setting.tokens, setting.batches)
        self.folder, self.setting, self._data = folder, setting, folder / "data"
        self.batches = corpus.write(self._data, pair.languages, setting.types, chosen, generator)
        self._write_teacher()

    def options(self, case: Case) -> list[str]:
        """Return fairseq-train's options for a case."""
        criterion = "cross_entropy" if case == TEACHER else case.criterion
        return [
            *self._common(),
            *sizes.model_options(self.setting.pair, "learner", self.setting.quick),
            *sizes.criterion_options(self.setting.pair, criterion),
            *(self._cache() if case.variant == "cached" else []),
            *(["--loss-kernel", case.variant] if case.variant in sizes.KERNELS else []),
        ]

    def build_cache(self, seconds: float | None = None) -> None:
        """Store the teacher's answers with the user's own command."""
        words = ["build", *self._common(), *self._cache()]
        words += ["--max-tokens", str(self.setting.tokens)]
        words += [] if self.setting.device == "cuda" else ["--cpu"]
        self._run("ka_fairseq.cache", words, seconds)

    def measure(self, case: Case, seconds: float | None = None) -> dict[str, Any]:
        """Measure a case in a process of its own; return :func:`benchmark.measure.measure`'s."""
        setting = self.setting
        request = Request(
            case=case.variant or case.criterion,
            options=self.options(case),
            batches=self.batches,
            device=setting.device,
            precision=setting.precision,
            threads=setting.threads,
            steps=setting.steps,
            warm_up=setting.warm_up,
        )
        path = self.folder / "request.json"
        path.write_text(json.dumps(asdict(request)), encoding="utf-8")
        return json.loads(self._run("benchmark.measure", [str(path)], seconds))

    def _run(self, module: str, words: list[str], seconds: float | None) -> str:
        """Run a module in its process; return the last line of its output."""
        last = [""]
        commands.run(
            [*commands.fairseq_module(module), *words],
            self.folder / "log",
            last.append,
            environment=environment(self.setting.tuned, self.setting.threads),
            seconds=seconds,
        )
        return last[-1]

    def _common(self) -> list[str]:
        return [
            str(self._data),
            *sizes.task_options(self.setting.pair),
            *("--teacher-path", str(self._data / "teacher.pt")),
        ]

    def _cache(self) -> list[str]:
        # Both in the student's precision: products of two precisions would be made in float32.
        precision = self.setting.precision
        stored = "bf16" if precision == "bf16" else "fp16"
        return [
            *("--teacher-cache", str(self.folder / "cache"), "--teacher-dtype", precision),
            *("--teacher-cache-dtype", stored),
        ]

    def _write_teacher(self) -> None:
        words = [str(self._data), *sizes.task_options(self.setting.pair)]
        words += sizes.model_options(self.setting.pair, "teacher", self.setting.quick)
        parser = options.get_training_parser()
        cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, words))
        torch.manual_seed(SEED)
        before = torch.get_num_threads()
        torch.set_num_threads(1)  # more threads may spin for minutes beside a measurement
        model = tasks.setup_task(cfg.task).build_model(cfg.model)
        torch.set_num_threads(before)
        state = {
            "args": None,
            "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
            "model": model.state_dict(),
            "optimizer_history": [{"optimizer_name": "none", "lr_scheduler_state": {}}],
            "extra_state": {},
        }
        torch.save(state, self._data / "teacher.pt")


def run(
    workspace: Workspace, cases: list[Case], deadline: float = math.inf, may_not_fit: bool = False
) -> pd.DataFrame:
    """Measure all cases in turn, once for each repeat, each time in another order.

    Args:
        workspace: the files.
        cases: the cases; the first repeat keeps their order.
        deadline: the end of the time limit, by ``time.monotonic``. Later cases are left out.
        may_not_fit: leave out a case that has too little memory.

    Returns:
        A row for each finished process: repeat, criterion, variant and the figures.

    Raises:
        UserError: a measurement failed.
    """

    def left() -> float | None:
        return None if deadline == math.inf else deadline - time.monotonic()

    if any(case.variant == "cached" for case in cases):
        try:
            workspace.build_cache(left())
        except PipelineError as error:
            raise UserError(f"building the teacher cache failed: {error}") from error
    order = [
        (repeat, case)
        for repeat in range(workspace.setting.repeats)
        for case in (random.Random(repeat).sample(cases, len(cases)) if repeat else cases)
    ]
    rows = []
    bar = tqdm(order, unit="process", mininterval=0.1 if sys.stderr.isatty() else 30)
    for repeat, case in bar:
        bar.set_description(str(case), refresh=sys.stderr.isatty())
        if time.monotonic() >= deadline:
            break
        try:
            found = workspace.measure(case, left())
        except PipelineError as error:
            if time.monotonic() >= deadline:
                break
            if may_not_fit and "memory" in str(error).lower():
                continue
            raise UserError(f"measuring {case} failed: {error}") from error
        rows.append({"repeat": repeat, **case._asdict(), **found})
    return pd.DataFrame(rows)
