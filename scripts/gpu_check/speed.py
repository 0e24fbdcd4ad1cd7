"""Parts ``speed-…``: the benchmark, with the peers that are installed and the compiled loss."""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path
from typing import Any

import torch
from benchmark import peers

from gpu_check.part import Findings, Job, PartError

PAIR = "wmt17_de_en"
CRITERION = "backward_kl"
# What is done after the benchmark's last process, within the part's time: ending one that has
# gigabytes on a GPU takes a while, and so does writing the report on a machine that is slow.
_SECONDS_TO_WRITE = 30


def of_tokens(tokens: int, variants: tuple[str, ...]) -> functools.partial[Findings]:
    """The work of a part: batches of this size, in bf16, with these variants and the peers."""
    options = ("--precision", "bf16", "--tokens", tokens, "--steps", 16)
    return functools.partial(run, options=options, variants=variants, with_peers=True)


def small(variants: tuple[str, ...]) -> functools.partial[Findings]:
    """The work of a part: tiny models and batches, on the device of the check."""
    return functools.partial(run, options=("--quick",), variants=variants, with_peers=False)


def run(
    job: Job, options: tuple[object, ...], variants: tuple[str, ...], with_peers: bool
) -> Findings:
    """Measure, and compare the compiled loss with the eager one.

    Raises:
        PartError: nothing was measured.
    """
    output = job.setting.work / job.name
    if not hasattr(torch, "compile"):
        variants = tuple(name for name in variants if name != "compiled")
    found = [name for name in peers.PACKAGES if with_peers and peers.installed(name)]
    failure = None
    try:
        job.run(
            "benchmark",
            *("-m", "benchmark", "--device", job.setting.device, "--pair", PAIR),
            *("--criterions", CRITERION, *options),
            *("--variants", *variants, *found, "--repeats", 1, "--keep-going"),
            *("--time-limit", max(1, int(job.left) - _SECONDS_TO_WRITE), "--output", output),
        )
    except PartError as error:
        failure = error
    report = next(iter(output.glob("*.json")), None)
    if report is None:
        raise failure or PartError("the benchmark wrote no report")
    return findings(report)


def findings(report: Path) -> Findings:
    """What the benchmark's report says."""
    content = json.loads(report.read_text(encoding="utf-8"))
    rows = {row["variant"]: row for row in content["cases"] if row["criterion"] == CRITERION}
    problems = content["problems"]
    found = [_against(rows, *pair) for pair in _RATIOS]
    summary = ", ".join(filter(None, found))
    left_out = [f"{p['case']}: {p['reason']}" for p in problems if not p["failed"]]
    text = report.with_suffix(".md").read_text(encoding="utf-8")
    return Findings(
        "; ".join(filter(None, [summary, *left_out])),
        [f"{p['case']}: {p['reason']}" for p in problems if p["failed"]],
        re.sub("^# ", f"## {report.parent.name}: ", text),
        content,
    )


_RATIOS = (
    *(("chunked", "plain"), ("cached", "chunked"), ("compiled", "chunked")),
    *(("chunked", "liger"), ("chunked", "trl")),
)


def _against(rows: dict[str, Any], one: str, other: str) -> str:
    if one not in rows or other not in rows:
        return ""
    return f"{one} ÷ {other} {rows[one]['step_ms'] / rows[other]['step_ms']:.2f}"
