"""Measure how a step's time and memory grow with the tokens a batch and with the types."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from pipeline.engine import files
from tabulate import tabulate

from benchmark import children, report, runner
from benchmark.runner import CROSS_ENTROPY, Case, Plan
from benchmark.workspace import Setting, Workspace, prepare
from ka_fairseq.analysis import plotting
from ka_fairseq.errors import UserError

TOKENS = (1024, 2048, 4096, 8192, 16384)
TYPES = (10_000, 20_000, 40_000, 80_000, 128_000)
QUICK_TOKENS, QUICK_TYPES = (64, 128), (200, 400)

# How many float32 tensors of tokens × types exist at once, for the forecast of memory.
TENSORS = {"cross_entropy": 4, "plain": 10}
LABELS = {"tokens": "tokens a batch", "types": "types"}


def settings(base: Setting) -> Iterator[tuple[str, Setting]]:
    """Yield each setting with the name of the growing quantity."""
    tokens = QUICK_TOKENS if base.quick else TOKENS
    types = QUICK_TYPES if base.quick else TYPES
    for number in tokens:
        yield "tokens", replace(base, tokens=number, batches=1)
    for number in types:
        yield "types", replace(base, types=number, batches=1)


def run(base: Setting, criterion: str, variants: Iterable[str], plan: Plan) -> pd.DataFrame:
    """Measure the cross-entropy step and a criterion's variants in every setting.

    Returns:
        A row for each case, setting and repeat, with the columns ``grows``, ``types`` and
        ``max_tokens``. A row without enough memory has no figures.

    Raises:
        UserError: a measurement failed for another reason, or nothing fitted.
    """
    cases = [CROSS_ENTROPY, *(Case(criterion, variant) for variant in variants)]
    rows = []
    for grows, setting in runner.progress(list(settings(base)), unit="setting"):
        with tempfile.TemporaryDirectory(prefix="ka-benchmark-") as folder:
            workspace = prepare(Path(folder), setting)
            place = {"grows": grows, "types": setting.types, "max_tokens": setting.tokens}
            rows += [place | row for row in _measure(workspace, cases, plan)]
    if not any("step_ms" in row for row in rows):
        raise UserError("there is too little memory for any of these sizes: choose a smaller pair")
    return pd.DataFrame(rows)


def _measure(workspace: Workspace, cases: list[Case], plan: Plan) -> Iterator[dict[str, Any]]:
    try:
        if any(case.variant == "cached" for case in cases):
            workspace.build_cache()
        for repeat in range(plan.repeats):
            for case in cases:
                label = {"repeat": repeat, **asdict(case)}
                yield label | figures(workspace, case, plan)
    except children.ProcessError as error:
        raise UserError(f"measuring how time and memory grow failed: {error}") from error


def figures(workspace: Workspace, case: Case, plan: Plan) -> dict[str, Any]:
    """Return a process's figures; empty if the process would not fit, or did not fit."""
    setting = workspace.setting
    needed = 4 * TENSORS.get(case.kind, 0) * setting.tokens * setting.types
    if setting.device == "cpu" and needed > psutil.virtual_memory().available:
        return {}  # with too little memory the system might end another process
    try:
        return runner.row(runner.one(workspace, case, plan))
    except children.OutOfMemory:
        return {}


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Plot time and memory over tokens and over types, with logarithmic axes.

    Args:
        rows: the rows of :func:`run`.
        path: without a suffix; a PNG and an SVG are written.
    """
    rows = rows.assign(step_mb=rows.peak_mb - rows.before_mb)
    quantities = {"step_ms": "milliseconds a step", "step_mb": "MB a step at its peak"}
    names = dict.fromkeys(Case(*pair) for pair in zip(rows.criterion, rows.variant, strict=True))
    styles = plotting.series_styles(map(str, names))
    with plotting.figure(path, plotting.FULL_PAGE, 6.4) as drawing:
        grid = drawing.subplots(2, 2, sharey="row")
        for axes_row, (column, label) in zip(grid, quantities.items(), strict=True):
            for axes, (grows, what) in zip(axes_row, LABELS.items(), strict=True):
                over = "max_tokens" if grows == "tokens" else "types"
                for case in names:
                    _draw(axes, _of(rows, grows, case), over, column, styles, str(case))
                _scale(axes, rows[rows.grows == grows][over].unique(), what)
            axes_row[0].set_ylabel(label)
        plotting.legend_above(drawing, columns=4)


def _of(rows: pd.DataFrame, grows: str, case: Case) -> pd.DataFrame:
    chosen = (rows.grows == grows) & (rows.criterion == case.criterion)
    return rows[chosen & (rows.variant == case.variant)]


def _scale(axes: Axes, measured: Iterable[int], what: str) -> None:
    """Set two logarithmic axes with plain numbers; the x ticks are the measured values."""
    axes.set(xscale="log", yscale="log", xlabel=what)
    axes.xaxis.set_major_locator(FixedLocator(list(measured)))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x / 1000:.0f}k" if x >= 1000 else f"{x:g}")
    )
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())


def _draw(
    axes: Axes,
    rows: pd.DataFrame,
    over: str,
    column: str,
    styles: Mapping[str, dict[str, Any]],
    name: str,
) -> None:
    medians = rows.groupby(over)[column].median().dropna()
    axes.plot(medians.index.to_numpy(), medians.to_numpy(), label=name, **styles[name])


def markdown(rows: pd.DataFrame, base: Setting, about: Mapping[str, Any]) -> str:
    """Return the medians as tables, and the plot."""
    lines = [f"# Growth of a step: {base.pair} on {base.device}, {base.precision}", ""]
    rows = rows.assign(
        step_mb=rows.peak_mb - rows.before_mb,
        case=[str(Case(*pair)) for pair in zip(rows.criterion, rows.variant, strict=True)],
    )
    for grows, over in (("tokens", "max_tokens"), ("types", "types")):
        for column, what in (("step_ms", "milliseconds a step"), ("step_mb", "MB at its peak")):
            table = rows[rows.grows == grows].pivot_table(
                index="case", columns=over, values=column, aggfunc="median", sort=False
            )
            text = tabulate(table, headers="keys", tablefmt="pipe", floatfmt=".1f")
            lines += [f"{what}, over {LABELS[grows]}:", "", text, ""]
    name = report.name_of(base)
    lines += [
        "A case without a number had too little memory. MB: the most memory held during a step, "
        "minus the memory held before the first step.",
        "",
        f"![time and memory over tokens and types]({name}-scaling.png)",
        "",
        *report.described(about),
        "",
    ]
    return "\n".join(lines)


def write(folder: Path, base: Setting, rows: pd.DataFrame, about: Mapping[str, Any]) -> str:
    """Write NAME-scaling with .md, .json, .csv, .png and .svg.

    Returns:
        The Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name_of(base)}-scaling"
    plot(rows, path)
    text = markdown(rows, base, about)
    files.write_text(path.with_name(path.name + ".md"), text)
    files.write_text(path.with_name(path.name + ".csv"), rows.to_csv(index=False))
    content = {"setting": asdict(base), "about": dict(about)}
    known = rows.astype(object).where(rows.notna(), None)
    files.write_json(
        path.with_name(path.name + ".json"), {**content, "measurements": known.to_dict("records")}
    )
    return text
