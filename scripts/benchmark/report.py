"""Write the report: Markdown for people, JSON and CSV for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
from pipeline.engine import files
from pipeline.results import machine
from tabulate import tabulate

from benchmark import children, missed, sizes
from benchmark.missed import Profile
from benchmark.runner import Plan, Problem
from benchmark.tables import Bound
from benchmark.workspace import Setting

_COLUMNS = {
    "criterion": "",
    "variant": "",
    "step_ms": "step, ms",
    "step_ms_iqr": "IQR",
    "to_floor": "÷ floor",
    "to_floor_iqr": "IQR",
    "to_cross_entropy": "÷ CE step",
    "tokens_per_second": "tokens/s",
    "over_cross_entropy_mb": "peak over CE, MB",
    "over_cross_entropy_and_teacher_mb": "without teacher's weights, MB",
    "loss_alone_ms": "loss alone, ms",
    "reading_ms": "reading, ms",
}
_DIGITS = {"to_floor": 3, "to_floor_iqr": 3, "to_cross_entropy": 3, "tokens_per_second": 0}
_DIGITS |= {"over_cross_entropy_mb": 0, "over_cross_entropy_and_teacher_mb": 0}
_NAMES = {
    "cross_entropy": "cross-entropy (CE), fairseq's",
    "chunked_cross_entropy": "cross-entropy, chunked",
    "teacher": "teacher, forward",
    "floor": "floor: CE + teacher, forward",
    "products": "both models without a loss",
}
_ENVIRONMENT = ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "MKL_NUM_THREADS", "LD_PRELOAD")
_EXPLANATION = """\
- A step is a forward and a backward pass of the student in training mode, without the optimizer.
  Times are medians over the repeats with their interquartile range (IQR). Ratios are computed
  within each repeat.
- floor: fairseq's label_smoothed_cross_entropy step and the teacher's forward pass, each measured
  in this run.
- plain: full logits, softmax and log-softmax of both models, products, sums.
- chunked: this package, the teacher runs at every step.
- eager, compiled, triton: chunked with this `--loss-kernel`.
- cached: this package with `--teacher-cache`.
- liger: Liger-Kernel's fused loss of NLL and divergence, without label smoothing.
- trl: TRL's fused divergence, without NLL.
- without a loss: both models' passes and the matrix products with their output projections, with
  all logits in one piece, but without softmax and divergence.
- peak over CE: the most memory ({memory}) held during the steps, minus that of
  the cross-entropy step. The next column subtracts the teacher's weights too.
- loss alone: from both models' hidden states to the gradient of the student's hidden states. For
  the teacher: its output projection.
- reading: the time of a data worker for a batch."""


def name_of(setting: Setting) -> str:
    """Return the base name of a setting's files."""
    precision = "" if setting.precision == "fp32" else f"-{setting.precision}"
    kernel = "" if setting.kernel == "auto" else f"-{setting.kernel}"
    quick = "-quick" if setting.quick else ""
    as_is = "" if setting.tuned else "-as-is"
    return f"{setting.pair}-{setting.device}{precision}{kernel}{as_is}{quick}"


def facts(
    setting: Setting, plan: Plan, rows: pd.DataFrame, notes: Iterable[str]
) -> dict[str, str | list[str]]:
    """Return the facts needed to read the numbers."""
    pair = sizes.PAIRS[setting.pair]
    variables = [
        f"{name}={value}"
        for name, value in sorted(children.environment(setting.tuned).items())
        if name in _ENVIRONMENT or name.startswith(("MALLOC_", "PYTORCH_"))
    ]
    return {
        "Pair": f"{setting.pair}, Table 1's sizes" + (" made tiny" if setting.quick else ""),
        "Batches": f"{setting.batches}, {setting.tokens} tokens as --max-tokens counts them "
        f"({rows.tokens.mean():.0f} target tokens and {rows.padded_tokens.mean():.0f} positions on "
        f"average), {setting.types} types",
        "Lengths": ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in asdict(pair.lengths).items()
        ),
        "Measured": f"repeats: {plan.repeats}; in each process {plan.steps} steps after "
        f"{plan.warm_up} warm-up steps; {setting.precision}"
        + (f"; with --loss-kernel {setting.kernel}" if setting.kernel != "auto" else ""),
        **machine.facts(),
        "Environment": ", ".join(variables) or "no variables for threads and memory are set",
        "Notes": list(notes),
    }


def cells(rows: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Return the summary's rows as text."""
    return [{key: _cell(key, row.get(key)) for key in _COLUMNS} for row in rows]


def _cell(key: str, value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, str):
        return _NAMES.get(value, value)
    return f"{value:.{_DIGITS.get(key, 1)}f}"


def markdown(
    setting: Setting,
    summary: list[dict[str, Any]],
    bounds: list[Bound],
    about: Mapping[str, str | list[str]],
    profiles: Iterable[Profile] = (),
) -> str:
    """Return the tables and the notes that explain them."""
    memory = "torch's allocator" if setting.device == "cuda" else "resident in the process"
    judged = [
        {
            "what": bound.what,
            "bound": f"≤ {bound.limit:g} {bound.unit}".strip(),
            "measured": f"{bound.measured:.{0 if bound.unit else 3}f} {bound.unit}".strip(),
            "": bound.verdict,
        }
        for bound in bounds
    ]
    cases = cells(summary)
    lines = [
        f"# Speed: {setting.pair} on {setting.device}, {setting.precision}",
        "",
        tabulate(
            [list(row.values()) for row in cases],
            headers=list(_COLUMNS.values()),
            tablefmt="pipe",
            disable_numparse=True,
            colalign=("left", "left", *["right"] * (len(_COLUMNS) - 2)),
        ),
        "",
        _EXPLANATION.format(memory=memory),
        "",
        tabulate(judged, headers="keys", tablefmt="pipe", disable_numparse=True),
        "",
        *missed.markdown(profiles),
        *described(about),
        "",
    ]
    return "\n".join(lines)


def described(about: Mapping[str, str | list[str]]) -> list[str]:
    """Return :func:`facts` as a list in Markdown."""
    notes = about["Notes"]
    return [
        *(f"- {key}: {value}" for key, value in about.items() if key != "Notes"),
        *(f"- {note}" for note in notes),
    ]


def write(
    folder: Path,
    setting: Setting,
    rows: pd.DataFrame,
    summary: list[dict[str, Any]],
    bounds: list[Bound],
    about: Mapping[str, str | list[str]],
    problems: Iterable[Problem] = (),
    profiles: Sequence[Profile] = (),
) -> str:
    """Write NAME.md, NAME.json, and NAME.csv with every single measurement.

    Returns:
        The Markdown.
    """
    text = markdown(setting, summary, bounds, about, profiles)
    path = folder / name_of(setting)
    files.write_text(path.with_name(path.name + ".md"), text)
    content = {
        "setting": asdict(setting),
        "about": dict(about),
        "cases": summary,
        "bounds": [
            {**asdict(bound), "case": str(bound.case), "verdict": bound.verdict} for bound in bounds
        ],
        "profiles": [{**asdict(profile), "case": str(profile.case)} for profile in profiles],
        "problems": [{**asdict(problem), "case": str(problem.case)} for problem in problems],
    }
    files.write_json(path.with_name(path.name + ".json"), content)
    files.write_text(path.with_name(path.name + ".csv"), rows.to_csv(index=False))
    return text
