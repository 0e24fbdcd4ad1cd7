"""Colours, fonts, sizes and file formats of all figures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, distinct with any colour vision. Markers tell series apart in grey.
BLUE, ORANGE, GREEN, PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
YELLOW, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#767676"
SERIES_COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY)
SERIES_MARKERS = ("o", "s", "D", "^", "v", "<", ">")

# Fonts for letters that matplotlib's own font lacks. Only installed fonts are used.
OTHER_SCRIPTS = (
    *("Noto Sans Thai", "Loma", "Garuda", "Noto Sans CJK SC", "Noto Sans Arabic"),
    *("Noto Sans Devanagari", "Noto Sans Hebrew"),
)

# A figure of 4.8 inches is readable at the width of half a page: 10 points become about 7.
HALF_PAGE, FULL_PAGE = 4.8, 8.0

_MANY = 12  # with more lines, the legend has small letters

_STYLE = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10.5,
    "legend.fontsize": 10,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "savefig.dpi": 200,
    # Tokens may hold dollar signs.
    "text.parse_math": False,
    # Makes the bytes of an SVG file depend on the numbers only.
    "svg.hashsalt": "ka_fairseq",
}


@contextmanager
def figure(path: Path, width: float = HALF_PAGE, height: float = 3.4) -> Iterator[Figure]:
    """Yield a figure to draw on; write it to ``path``.png and ``path``.svg after the block.

    Args:
        path: the output path, without a suffix.
        width: in inches.
        height: in inches.
    """
    installed = {font.name for font in font_manager.fontManager.ttflist}
    families = ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]
    with mpl.rc_context({**_STYLE, "font.family": families}):
        drawing = Figure(figsize=(width, height), layout="constrained")
        yield drawing
        drawing.savefig(f"{path}.png")
        drawing.savefig(f"{path}.svg", metadata={"Date": None})


def series_styles(names: Iterable[str]) -> Mapping[str, dict[str, Any]]:
    """Return a colour and a marker for each name, in order of appearance."""
    styles = zip(cycle(SERIES_COLOURS), cycle(SERIES_MARKERS), strict=False)
    return {
        name: {"color": colour, "marker": marker, "markeredgecolor": "white"}
        for name, (colour, marker) in zip(dict.fromkeys(names), styles, strict=False)
    }


def legend_above(drawing: Figure, columns: int = 3) -> None:
    """Draw one legend for all axes, in a strip above the axes.

    Args:
        drawing: the figure, with all lines drawn. If the legend is higher than a quarter of the
            figure, the figure grows by the excess, so that the axes keep their space.
        columns: the greatest number of columns; long labels get fewer columns.
    """
    labelled: dict[str, Any] = {}
    for axes in drawing.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            labelled.setdefault(label, handle)
    if not labelled:
        return
    width, height = drawing.get_size_inches()
    for ncols in range(min(columns, len(labelled)), 0, -1):
        legend = drawing.legend(
            labelled.values(),
            labelled.keys(),
            loc="outside upper center",
            ncols=ncols,
            fontsize=8 if len(labelled) > _MANY else None,
            columnspacing=1.4,
            handlelength=1.8,
        )
        box = legend.get_window_extent()
        if box.width <= width * drawing.dpi or ncols == 1:
            break
        legend.remove()
    drawing.set_size_inches(width, height + max(0.0, box.height / drawing.dpi - height / 4))


def draw_epochs(
    axes: Axes,
    frame: pd.DataFrame,
    column: str,
    styles: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Draw a line over the epochs for each run.

    Args:
        axes: the axes to draw on.
        frame: a table with the columns run, epoch and ``column``.
        column: the column to draw.
        styles: the style of each run; by default the styles of :func:`series_styles`.
    """
    styles = styles or series_styles(frame.run)
    for name, run in frame.groupby("run", sort=False):
        axes.plot(run.epoch.to_numpy(dtype=int), run[column], label=name, **styles[name])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
