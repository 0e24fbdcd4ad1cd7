"""Parts ``prepare`` and ``train-…``: trainings that fill the teacher's cache, read it and resume.

The same training without a cache stands beside: the teacher's answers from the cache have to be
those that it gives when it is asked.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline import commands, training_log
from pipeline.settings import REPOSITORY, USER_DIR
from tabulate import tabulate

from gpu_check.part import Findings, Job, Setting

TEXT = REPOSITORY / "tests" / "data" / "libreoffice-help"
LANGUAGES = ("de", "en")

# Each precision with another criterion, so that all ways to use an answer are gone.
CRITERIONS = {"fp16": "backward_kl", "bf16": "jsd_mixture", "amp": "topk_kl"}

# How far the two trainings may be apart, in bits a token. The teacher's entropy depends on nothing
# but its answers; the losses on the learner too, which rounds at each of its updates.
OF_TEACHER = 0.005
OF_LOSSES = {"fp16": 0.03, "bf16": 0.15, "amp": 0.03}
_COMPARED = tuple(
    f"{split}_{name}"
    for split in ("train", "valid")
    for name in ("teacher_entropy", "transfer_loss", "loss")
)
FILLING, READING, RESUMED = 1, 2, 3


def prepare(job: Job) -> Findings:
    """Binarize the text and train a teacher on it for some updates, in fp32.

    Raises:
        PartError: a command failed.
    """
    work = job.setting.work
    source, target = LANGUAGES
    train, valid = ("valid", "test") if job.setting.quick else ("train", "valid")
    job.run(
        "preprocess",
        *_start("fairseq_cli.preprocess"),
        *("-s", source, "-t", target, "--joined-dictionary"),
        *("--trainpref", TEXT / train, "--validpref", TEXT / valid, "--thresholdsrc", 3),
        *("--destdir", work / "data"),
    )
    log = _train(
        job,
        "teacher",
        *("--task", "translation", "--criterion", "label_smoothed_cross_entropy"),
        *("--encoder-embed-dim", 96, "--max-update", 20 if job.setting.quick else 100),
    )
    losses = training_log.by_epoch(training_log.read(log), "valid_loss")
    return Findings(f"a teacher of {losses[max(losses)]:.2f} bits a token on validation")


def in_precision(name: str) -> functools.partial[Findings]:
    """The work of a part: train in this precision."""
    return functools.partial(run, precision=name)


def run(job: Job, precision: str) -> Findings:
    """Two epochs with a cache, a third after a new start, and the same three without a cache.

    Raises:
        PartError: a command failed.
    """
    options = _options(job.setting, precision)
    cached = (*options, "--teacher-cache", job.setting.work / f"{job.name}-cache")
    logs = {
        "cached": _train(job, "cached", *cached, "--max-epoch", READING),
        "resumed": _train(job, "cached", *cached, "--max-epoch", RESUMED, step="resumed"),
        "uncached": _train(
            job, "uncached", *options, "--teacher-dtype", "fp32", "--max-epoch", RESUMED
        ),
    }
    errors = []
    if precision == "amp" or not job.setting.quick:  # a process more, and amp's is the risk
        built = job.run("cache", *_start("ka_fairseq.cache"), "build", *_common(job), *cached)
        errors += not_filled(built.read_text(encoding="utf-8"))
    records = {name: training_log.read(log) for name, log in logs.items()}
    rows = compare(records, precision)
    errors += [
        *not_finite(records),
        *not_resumed(records["cached"], records["resumed"]),
        *too_far(rows),
    ]
    return Findings(_summary(rows), errors, _markdown(job.name, precision, rows), {"rows": rows})


def _options(setting: Setting, precision: str) -> list[object]:
    return [
        f"--{precision}",
        *("--task", "translation_with_teacher", "--criterion", CRITERIONS[precision]),
        *("--teacher-path", setting.work / "teacher" / "checkpoint_last.pt"),
        *("--teacher-data", setting.work / "data", "--label-smoothing", 0.1),
    ]


def _common(job: Job) -> list[object]:
    return [
        job.setting.work / "data",
        *("--user-dir", USER_DIR, "--seed", 1),
        *(("--cpu",) if job.setting.device == "cpu" else ()),
        *("--arch", "transformer_tiny", "--dropout", 0, "--optimizer", "adam", "--lr", 1e-3),
        *("--max-tokens", 1000, "--required-batch-size-multiple", 1),
        *("--update-epoch-batch-itr", "True", "--no-epoch-checkpoints"),
        *("--log-format", "json", "--log-interval", 1),
        *(("--num-workers", 0) if job.setting.quick else ()),
    ]


def _train(job: Job, model: str, *options: object, step: str = "") -> Path:
    folder = job.setting.work / (model if model == "teacher" else f"{job.name}-{model}")
    command = (*_start("fairseq_cli.train"), *_common(job), "--save-dir", folder, *options)
    return job.run(step or model, *command)


def _start(module: str) -> list[str]:
    return commands.fairseq_module(module)[1:]  # the job names Python itself


# -- what is checked -------------------------------------------------------------------------------


def not_finite(records: dict[str, list[dict[str, Any]]]) -> Iterable[str]:
    """A line for each training with a loss that is no number, and each with none at all."""
    for name, found in records.items():
        losses = [
            float(value)
            for record in found
            for key, value in record.items()
            if key.endswith(("loss", "entropy"))
        ]
        if not losses:
            yield f"{name}: no loss was logged"
        elif bad := sum(not math.isfinite(loss) for loss in losses):
            yield f"{name}: {bad} of {len(losses)} logged losses are not finite"


def not_resumed(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> Iterable[str]:
    """A line where the second training does not go on where the first one stopped."""
    updates = [
        [(record["epoch"], int(record["num_updates"])) for record in found if "update" in record]
        for found in (before, after)
    ]
    if not all(updates):
        yield "resumed: no update was logged"
        return
    (_, last), (epoch, first) = updates[0][-1], updates[1][0]
    if (epoch, first) != (RESUMED, last + 1):
        yield (
            f"resumed: went on with update {first} in epoch {epoch}, after update {last} in epoch "
            f"{READING}"
        )


def not_filled(printed: str) -> Iterable[str]:
    """A line where ``cache build`` found pairs that the first epoch had not stored."""
    found = [line for line in printed.splitlines() if "pairs answered" in line]
    if len(found) != 2:
        yield "cache: the build said nothing of two splits"
    yield from (f"cache: {line}" for line in found if ": 0 of " not in line)


def compare(records: dict[str, list[dict[str, Any]]], precision: str) -> list[dict[str, Any]]:
    """Each epoch's figures with and without a cache, in bits a token, and how far they are apart.

    A figure that is missing on one side is infinitely far.
    """
    with_cache = [*records["cached"], *records["resumed"]]
    rows = []
    for what in _COMPARED:
        one, other = (training_log.by_epoch(r, what) for r in (with_cache, records["uncached"]))
        for epoch in (FILLING, READING, RESUMED):
            both = one.get(epoch, math.inf), other.get(epoch, -math.inf)
            rows.append(
                {
                    "what": what,
                    "epoch": epoch,
                    "cached": both[0],
                    "uncached": both[1],
                    "difference": abs(both[0] - both[1]),
                    "tolerance": OF_TEACHER if "entropy" in what else OF_LOSSES[precision],
                }
            )
    return rows


def too_far(rows: list[dict[str, Any]]) -> Iterable[str]:
    """A line for each figure of :func:`compare` that is farther apart than it may be."""
    for row in rows:
        if not row["difference"] <= row["tolerance"]:
            yield (
                f"{row['what']} of epoch {row['epoch']}: {row['difference']:.4f} bits apart with "
                f"and without a cache, more than {row['tolerance']}"
            )


def _summary(rows: list[dict[str, Any]]) -> str:
    of_teacher = max(row["difference"] for row in rows if "entropy" in row["what"])
    of_losses = max(row["difference"] for row in rows if "entropy" not in row["what"])
    return (
        f"with and without a cache {of_teacher:.3f} bits apart in the teacher's entropy, "
        f"{of_losses:.3f} in losses, at most"
    )


def _markdown(name: str, precision: str, rows: list[dict[str, Any]]) -> str:
    table = tabulate(rows, headers="keys", tablefmt="pipe", floatfmt=".3f")
    return (
        f"## {name}: --{precision} --criterion {CRITERIONS[precision]}\n\n{table}\n\n"
        f"Bits a token. Epoch {FILLING} fills the cache, {READING} reads it, {RESUMED} is a new "
        "start that reads it; uncached: the teacher, in fp32 too, runs at every step.\n"
    )
