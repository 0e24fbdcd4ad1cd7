"""Draw the forest plot: each method's difference on each text, and the pooled difference below."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from ka_fairseq.analysis import plotting
from pipeline.results.pooled import Pooled

_ROW = 0.3  # inches


def draw(
    found: Mapping[str, Pooled],
    seeds: Mapping[str, pd.Series],
    against: str,
    metric: str,
    path: Path,
) -> None:
    """Draw a column for each method.

    Args:
        found: the pooled difference of each method.
        seeds: each method's differences by text and seed, drawn as small dots.
        against: the method that the differences are computed against.
        metric: the metric's name on the axis.
        path: without a suffix; a PNG and an SVG are written.
    """
    texts = list(next(iter(found.values())).by_text)
    width = max(plotting.HALF_PAGE, 2.1 * len(found))
    with plotting.figure(path, width, 1.2 + _ROW * (len(texts) + 1)) as drawing:
        columns = drawing.subplots(1, len(found), sharey=True, squeeze=False)[0]
        looks = plotting.series_styles(found)
        for axes, (method, pooled) in zip(columns, found.items(), strict=True):
            _draw(axes, texts, pooled, seeds[method], looks[method]["color"])
            axes.set_title(method)
            axes.set_xlabel(f"{metric} − {against}'s")
        columns[0].set_yticks(range(len(texts) + 1), [*texts, "all texts"])
        columns[0].set_ylim(len(texts) + 0.6, -0.6)


def _draw(axes: Axes, texts: list[str], pooled: Pooled, seeds: pd.Series, colour: str) -> None:
    for place, text in enumerate(texts):
        own = seeds[text]
        axes.plot(own, [place] * len(own), ".", color=colour, markersize=5, alpha=0.5)
        axes.plot(pooled.by_text[text], place, "|", color=colour, markersize=12)
    last = len(texts)
    axes.hlines(last, pooled.low, pooled.high, color=colour, linewidth=2)
    axes.plot(pooled.mean, last, "D", color=colour)
    axes.axvline(0, color=plotting.GREY, linewidth=1)
