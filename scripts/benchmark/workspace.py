"""The temporary folder of a measurement: data, the teacher's checkpoint and the teacher cache."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from omegaconf import OmegaConf

from benchmark import children, corpus, sizes

SEED = 1
_WITH_A_KERNEL = ("chunked", "cached")


@dataclass(frozen=True)
class Setting:
    """The sizes of a measurement.

    Attributes:
        pair: a key of :data:`benchmark.sizes.PAIRS`.
        types: V.
        tokens: tokens a batch, counted like ``--max-tokens``.
        batches: the number of different batches.
        precision: the precision of the models, and of the teacher cache.
        device: the device that builds the cache.
        quick: tiny models.
        kernel: the loss kernel of chunked and cached.
        tuned: use the pipeline's settings of threads and memory.
    """

    pair: str
    types: int
    tokens: int
    batches: int
    precision: str
    device: str
    quick: bool
    kernel: str = "auto"
    tuned: bool = True


@dataclass(frozen=True)
class Workspace:
    """The files that the measurements of a setting share.

    Attributes:
        folder: the folder.
        setting: the sizes.
        batches: the indices of the training pairs of each batch.
    """

    folder: Path
    setting: Setting
    batches: list[list[int]]

    def options(self, criterion: str, case: str) -> list[str]:
        """Return fairseq-train's options for a criterion in a case.

        Args:
            criterion: a name of :func:`benchmark.sizes.criterion_options`.
            case: a key of :data:`benchmark.cases.CASES`.
        """
        kernel = case if case in sizes.NAMED_KERNELS else self.setting.kernel
        named = kernel != "auto" and case in (*_WITH_A_KERNEL, *sizes.NAMED_KERNELS)
        return [
            *self._common(),
            *sizes.learner_options(self.setting.pair, self.setting.quick),
            *sizes.criterion_options(self.setting.pair, criterion),
            *(self._cache() if case == "cached" else []),
            *(["--loss-kernel", kernel] if named else []),
        ]

    def build_cache(self, seconds: float = math.inf) -> None:
        """Store the teacher's answers with the user's own command, within this time."""
        children.run_module(
            "ka_fairseq.cache",
            *("build", *self._common(), *self._cache()),
            *("--max-tokens", str(self.setting.tokens)),
            *(() if self.setting.device == "cuda" else ("--cpu",)),
            tuned=self.setting.tuned,
            seconds=seconds,
        )

    def _common(self) -> list[str]:
        return [
            str(self.folder / "data"),
            *sizes.task_options(self.setting.pair),
            *("--teacher-path", str(self.folder / "data" / "teacher.pt")),
        ]

    def _cache(self) -> list[str]:
        # Both in the student's precision: products of two precisions would be made in float32.
        precision = self.setting.precision
        stored = "bf16" if precision == "bf16" else "fp16"
        return [
            *("--teacher-cache", str(self.folder / "cache"), "--teacher-dtype", precision),
            *("--teacher-cache-dtype", stored),
        ]


def prepare(folder: Path, setting: Setting) -> Workspace:
    """Write the data and a teacher with random weights."""
    pair = sizes.PAIRS[setting.pair]
    generator = np.random.default_rng(SEED)
    lengths = corpus.draw_lengths(pair.lengths, setting.tokens, generator)
    chosen = corpus.choose_batches(lengths, setting.tokens, setting.batches)
    data = folder / "data"
    batches = corpus.write(data, pair.languages, setting.types, chosen, generator)
    _write_teacher(data, setting)
    return Workspace(folder, setting, batches)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Keep this process to one thread: more threads may spin for minutes beside a measurement."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _write_teacher(data: Path, setting: Setting) -> None:
    parser = options.get_training_parser()
    args = options.parse_args_and_arch(
        parser,
        [
            str(data),
            *sizes.task_options(setting.pair),
            *sizes.teacher_options(setting.pair, setting.quick),
        ],
    )
    cfg = convert_namespace_to_omegaconf(args)
    torch.manual_seed(SEED)
    with _one_thread():
        model = tasks.setup_task(cfg.task).build_model(cfg.model)
    state = {
        "args": None,
        "cfg": OmegaConf.to_container(cfg, resolve=True, enum_to_str=True),
        "model": model.state_dict(),
        "optimizer_history": [{"optimizer_name": "none", "lr_scheduler_state": {}}],
        "extra_state": {},
    }
    torch.save(state, data / "teacher.pt")
