"""Time whole steps of fairseq's models, built on the device at De–En sizes.

The sizes are from the paper's Table 1. No checkpoint is read.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark import corpus, sizes
from benchmark.cases import CASES, Bench
from fairseq import options, tasks, utils
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

from ka_fairseq.teacher.cache.cached_dataset import KEY
from ka_fairseq.teacher.cache.teacher_cache import TeacherCache
from ka_fairseq.teacher.frozen import FrozenTeacher

from .record import Record

PAIR = "wmt17_de_en"


def run(record: Record, folder: Path) -> None:
    """Time the floor, the plain step, and each criterion with and without a cache."""
    part = "a step"
    dtype = torch.float32 if record.device.type == "cpu" else torch.bfloat16
    made = record.figure(part, "building data and models", lambda: _describe(record, folder, dtype))
    if made is None:
        return
    bench, sample, stored = _MADE.pop()
    criterions = ("backward_kl",) if record.quick else sizes.CRITERIONS
    wanted = [("cross_entropy", "cross_entropy"), ("cross_entropy", "teacher")]
    wanted += [("backward_kl", "plain")]
    wanted += [(name, kind) for name in criterions for kind in ("chunked", "cached")]
    for criterion, kind in wanted:
        name = kind if criterion == "cross_entropy" else f"{criterion}, {kind}"
        batch = stored if kind == "cached" else sample
        record.figure(part, name, _step, record, bench, criterion, kind, batch)


# The first figure puts its objects here for the following figures.
_MADE: list[tuple[Bench, dict[str, Any], dict[str, Any]]] = []


def _describe(record: Record, folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    bench, sample, stored = _build(record, folder, dtype)
    _MADE.append((bench, sample, stored))
    return {"target tokens": sample["ntokens"], "types": len(bench.task.target_dictionary)}


def _build(
    record: Record, folder: Path, dtype: torch.dtype
) -> tuple[Bench, dict[str, Any], dict[str, Any]]:
    types, tokens = (200, 96) if record.quick else (40_000, 8192)
    pair, generator = sizes.PAIRS[PAIR], np.random.default_rng(1)
    lengths = corpus.draw_lengths(pair.lengths, tokens, generator)
    chosen = corpus.choose_batches(lengths, tokens, 1)
    (batch,) = corpus.write(folder / "data", pair.languages, types, chosen, generator)
    task, learner = _model(
        record, folder / "data", sizes.model_options(PAIR, "learner", record.quick), dtype
    )
    _, teacher = _model(
        record, folder / "data", sizes.model_options(PAIR, "teacher", record.quick), dtype
    )
    task.teacher = FrozenTeacher([teacher])
    task.teacher.dtype = dtype
    task.load_dataset("train")
    dataset = task.dataset("train")
    collated = dataset.collater([dataset[item] for item in batch])
    sample = utils.apply_to_sample(lambda tensor: tensor.to(record.device), collated)
    (folder / "teacher").write_text("none: its weights are random", encoding="utf-8")
    cache = TeacherCache(
        str(folder / "answers"),
        task.teacher,
        "bf16" if dtype == torch.bfloat16 else "fp16",
        str(folder / "teacher"),
        [task.source_dictionary, task.target_dictionary],
    )
    hidden, normalizers = cache._ask(sample, task.target_dictionary.pad())
    answer = {"split": "train-0", "hidden": hidden, "normalizers": normalizers}
    task.kept = cache
    return Bench(task, learner.train(), None), sample, {**sample, KEY: answer}


def _model(record: Record, data: Path, of_model: list[str], dtype: torch.dtype) -> tuple[Any, Any]:
    parser = options.get_training_parser()
    words = [str(data), *sizes.task_options(PAIR), *of_model]
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, words))
    task = tasks.setup_task(cfg.task)
    torch.manual_seed(1)
    with torch.device(record.device):
        model = task.build_model(cfg.model)
    return task, model.to(record.device, dtype)


def _step(
    record: Record, bench: Bench, criterion: str, kind: str, sample: Mapping[str, Any]
) -> dict[str, float]:
    task = bench.task
    task.teacher_cache = task.kept if kind == "cached" else None
    words = [
        task.cfg.data,
        *sizes.task_options(PAIR),
        *sizes.model_options(PAIR, "learner", record.quick),
    ]
    words += sizes.criterion_options(PAIR, criterion)
    cfg = convert_namespace_to_omegaconf(
        options.parse_args_and_arch(options.get_training_parser(), words)
    )
    case = CASES[kind](Bench(task, bench.model, task.build_criterion(cfg.criterion)))

    def once() -> None:
        bench.model.zero_grad(set_to_none=True)
        case.step(sample)

    found = {"ms": record.milliseconds(once)}
    if record.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        once()
        found["peak MB"] = round(torch.cuda.max_memory_allocated() / 1e6)
        begun = time.perf_counter()
        once()
        found["host ms"] = round(
            1e3 * (time.perf_counter() - begun), 2
        )  # until all work is in the GPU's queue
        torch.cuda.synchronize()
    return found
