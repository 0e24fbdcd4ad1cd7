"""Measure how a step's time and memory grow with the tokens a batch and with the types."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import pandas as pd
import psutil
from matplotlib.ticker import FuncFormatter, NullLocator
from tqdm import tqdm

from benchmark import report
from benchmark.processes import CROSS_ENTROPY, Case, Setting, Workspace, run
from ka_fairseq.analysis import plotting
from ka_fairseq.errors import UserError

TOKENS = (1024, 2048, 4096, 8192, 16384)
TYPES = (10_000, 20_000, 40_000, 80_000, 128_000)
QUICK_TOKENS, QUICK_TYPES = (64, 128), (200, 400)
# How many float32 tensors of tokens × types exist at once, for the forecast of memory.
TENSORS = {"cross_entropy": 4, "plain": 10}
NOTE = """\
A case without a number had too little memory, or the time limit came first. MB: the most
memory held during a step, minus the memory held before the first step."""
AXES = {"tokens": "tokens a batch", "types": "types"}
WHAT = {"step_ms": "milliseconds a step", "step_mb": "MB a step at its peak"}


def measure(base: Setting, cases: list[Case], deadline: float) -> pd.DataFrame:
    """Measure the cross-entropy step and the cases in every setting.

    Returns:
        The rows of :func:`benchmark.processes.run`, with the columns ``grows`` ("tokens" or
        "types"), ``size`` and ``step_mb``: the peak minus the memory held before the steps.
        A case without enough memory has no row.

    Raises:
        UserError: a measurement failed for another reason, or nothing fitted.
    """
    tokens = QUICK_TOKENS if base.quick else TOKENS
    types = QUICK_TYPES if base.quick else TYPES
    places = [("tokens", size) for size in tokens] + [("types", size) for size in types]
    found = []
    for grows, size in tqdm(places, unit="setting"):
        with tempfile.TemporaryDirectory(prefix="ka-benchmark-") as folder:
            setting = replace(base, **{grows: size})
            fitting = [case for case in (CROSS_ENTROPY, *cases) if fits(case, setting)]
            rows = run(Workspace(Path(folder), setting), fitting, deadline, may_not_fit=True)
        found.append(rows.assign(grows=grows, size=size))
    rows = pd.concat(found, ignore_index=True)
    if rows.empty:
        raise UserError("there is too little memory or time for any of these sizes")
    return rows.assign(
        step_mb=rows.peak_mb - rows.before_mb,
        case=(rows.criterion + " " + rows.variant).str.strip(),
    )


def fits(case: Case, setting: Setting) -> bool:
    """Return whether a case should fit: with too little memory the system may end other work."""
    needed = 4 * TENSORS.get(case.variant or case.criterion, 0) * setting.tokens * setting.types
    return setting.device == "cuda" or needed < psutil.virtual_memory().available


def medians(rows: pd.DataFrame, grows: str, figure: str) -> pd.DataFrame:
    """Return the medians over the repeats: a row for each case, a column for each size."""
    return rows[rows.grows == grows].pivot_table(
        index="case", columns="size", values=figure, aggfunc="median", sort=False
    )


def plot(rows: pd.DataFrame, path: Path) -> None:
    """Plot time and memory over tokens and over types, with logarithmic axes; PNG and SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    styles = plotting.series_styles(rows.case)
    with plotting.figure(path, plotting.FULL_PAGE, 6.4) as drawing:
        grid = drawing.subplots(2, 2, sharey="row")
        for axes_row, (figure, label) in zip(grid, WHAT.items(), strict=True):
            axes_row[0].set_ylabel(label)
            for axes, grows in zip(axes_row, AXES, strict=True):
                table = medians(rows, grows, figure)
                for case, values in table.iterrows():
                    axes.plot(table.columns, values, label=case, **styles[str(case)])
                axes.set(xscale="log", yscale="log", xlabel=AXES[grows])
                axes.set_xticks(table.columns, [_short(size) for size in table.columns])
                axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,g}"))
                axes.xaxis.set_minor_locator(NullLocator())
        plotting.legend_above(drawing, columns=4)


def _short(size: int) -> str:
    return f"{size / 1000:.0f}k" if size >= 1000 else str(size)


def markdown(base: Setting, rows: pd.DataFrame, name: str) -> str:
    """Return the medians as tables, and the plot."""
    parts = [f"# Growth of a step: {base.pair} on {base.device}, {base.precision}"]
    for grows in AXES:
        for figure, what in WHAT.items():
            parts.append(f"{what}, over {AXES[grows]}:")
            parts.append(medians(rows, grows, figure).to_markdown(floatfmt=".1f"))
    return "\n\n".join(
        [*parts, f"![time and memory]({name}.png)", NOTE, report.described(base, rows)]
    )
