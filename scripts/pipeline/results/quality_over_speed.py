"""Draw the picture of operating points: BLEU over sentences a second, and the frontier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.ticker import LogFormatter

from ka_fairseq.analysis import plotting
from pipeline.engine import files
from pipeline.models.model_list import Model
from pipeline.results import frontier, label_places, plots
from pipeline.results.operating_points import Row
from pipeline.results.tidy import SPEED

_FADED, _FADED_NAME = 0.35, 0.6
_COLUMNS = ["model", "size", "beam", "lenpen", SPEED, "bleu", "dominated"]


def draw(rows: Sequence[Row], models: Sequence[Model], path: Path) -> None:
    """Draw a line for each method, through its own frontier.

    Args:
        rows: the rows of `operating_points.rows`; without rows nothing is drawn.
        models: the models of the pair, for titles and colours.
        path: without a suffix. Older files are removed; a PNG, an SVG and a CSV are written.
    """
    for suffix in ("png", "svg", "csv"):
        files.remove(Path(f"{path}.{suffix}"))
    if not rows:
        return
    points = pd.DataFrame(list(rows))
    points["dominated"] = points.dominated_by.notna()
    files.write_text(Path(f"{path}.csv"), points[_COLUMNS].to_csv(index=False))
    looks, titles = plots.styles(models), {model.name: model.title for model in models}
    beams = list(dict.fromkeys(points.beam))
    with plotting.figure(path, plotting.FULL_PAGE, 5.0) as drawing:
        axes = drawing.subplots()
        _draw_frontier(axes, points)
        labels = []
        for name, of_method in points.groupby("model", sort=False):
            look = looks[titles[name]]
            _draw_line(axes, of_method, look, titles[name])
            labels += [_draw_point(axes, row, look, beams) for row in of_method.to_dict("records")]
        _finish(axes, beams)
        plotting.legend_above(drawing, columns=4)
        drawing.draw_without_rendering()  # fixes the places of all elements
        drawing.set_layout_engine("none")  # keeps these places
        label_places.place(axes, labels)


def _draw_frontier(axes: Axes, points: pd.DataFrame) -> None:
    """Draw the frontier as a broad line below all other lines."""
    best = points[~points.dominated].sort_values(SPEED)
    style = {"color": "#d5d5d5", "linewidth": 7, "solid_capstyle": "round", "zorder": 1}
    axes.plot(best[SPEED], best.bleu, label="frontier", **style)


def _draw_line(axes: Axes, points: pd.DataFrame, look: Mapping[str, Any], title: str) -> None:
    own = points[~frontier.dominated(points.bleu, points[SPEED])].sort_values(SPEED)
    axes.plot(own[SPEED], own.bleu, label=title, **{**look, "linewidth": 1.3, "markersize": 7})


def _draw_point(axes: Axes, row: Row, look: Mapping[str, Any], beams: Sequence[int]) -> Any:
    """Draw a marker, filled for the first beam, and a name; return the name's annotation."""
    alpha = _FADED if row["dominated"] else 1
    place = row[SPEED], row["bleu"]
    colour = look["color"]
    white = {"marker": look["marker"], "linestyle": "none", "color": "white", "zorder": 3}
    axes.plot(*place, markersize=9, **white)  # hides lines behind faded or hollow markers
    filled = {"markerfacecolor": colour if row["beam"] == beams[0] else "white"}
    style = {"marker": look["marker"], "linestyle": "none", "alpha": alpha, "zorder": 4}
    axes.plot(*place, markersize=7, markeredgecolor=colour, markeredgewidth=1.6, **style, **filled)
    return axes.annotate(
        _name(row),
        place,
        xytext=(0, 0),
        textcoords="offset points",
        fontsize=7.5,
        color=colour,
        alpha=max(alpha, _FADED_NAME),
        path_effects=[patheffects.withStroke(linewidth=1.5, foreground="white")],
        zorder=5,
    )


def _name(row: Row) -> str:
    """Return the size of a row, or its model without sizes: colours tell models apart."""
    return f"{row['size'] or row['model']} · {row['beam']}"


def _finish(axes: Axes, beams: Sequence[int]) -> None:
    if len(beams) > 1:
        for beam in beams:
            face = plotting.GREY if beam == beams[0] else "white"
            style = {"marker": "o", "linestyle": "none", "markeredgecolor": plotting.GREY}
            label = f"beam {beam}" if beam == beams[0] else "other beams"
            if beam in beams[:2]:
                axes.plot([], [], markerfacecolor=face, label=label, **style)
    axes.set_xscale("log")
    axes.margins(0.09)
    axes.tick_params(axis="x", which="both", length=4, pad=4)
    for formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        formatter(LogFormatter(minor_thresholds=(2, 0.5)))
    axes.set(xlabel="sentences a second, on one thread", ylabel="BLEU on test, as exported")
