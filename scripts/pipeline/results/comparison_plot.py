"""Plot a comparison: each method's difference to the first baseline, with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from ka_fairseq.analysis import plotting
from pipeline.models.model_list import Model
from pipeline.results import plots, score_tables, tables

_ROW = 0.36  # inches


def differences(content: Mapping[str, Any], models: Sequence[Model], path: Path) -> None:
    """Draw one row for each method and one column for each test set.

    Args:
        content: the content of ``compare.json``; without a baseline nothing is drawn.
        models: the models of the pair, for titles and colours.
        path: without a suffix. Older files are removed; a PNG and an SVG are written.
    """
    for suffix in ("png", "svg"):
        Path(f"{path}.{suffix}").unlink(missing_ok=True)
    if not content["baselines"]:
        return
    baseline = content["baselines"][0]
    methods = [name for name in content["methods"] if name != baseline]
    if not methods:
        return
    titles = {model.name: model.title for model in models}
    looks = {name: plots.styles(models)[titles[name]] for name in methods}
    tests = content["tests"]
    rows = [(one, name) for name in methods for one in score_tables.sizes(content)]
    width = plotting.HALF_PAGE if len(tests) == 1 else plotting.FULL_PAGE
    with plotting.figure(path, width, 1.3 + _ROW * len(rows)) as drawing:
        columns = drawing.subplots(1, len(tests), sharey=True, squeeze=False)[0]
        for axes, test in zip(columns, tests, strict=True):
            for place, (one, name) in enumerate(rows):
                _draw(axes, place, _difference(one, test["name"], name, baseline), looks[name])
            axes.axvline(0, color=plotting.GREY, linewidth=1)
            axes.set_title(test["name"] if len(tests) > 1 else "")
            axes.set_xlabel(f"BLEU {tables.versus(baseline, titles)}")
        named = [_title(titles[name], one["size"]) for one, name in rows]
        columns[0].set_yticks(range(len(rows)), named)
        columns[0].set_ylim(len(rows) - 0.5, -0.5)


def _title(title: str, size: str) -> str:
    return f"{title}, {size}" if size else title


def _difference(
    content: Mapping[str, Any], test: str, name: str, baseline: str
) -> Mapping[str, Any]:
    rows = next(found["rows"] for found in content["tests"] if found["name"] == test)
    return next(row["differences"] for row in rows if row["model"] == name)[baseline]["bleu"]


def _draw(axes: Axes, place: int, found: Mapping[str, Any], look: Mapping[str, Any]) -> None:
    """Draw the mean with its interval, and each seed's difference as a small dot."""
    axes.hlines(place, found["low"], found["high"], color=look["color"], linewidth=2)
    axes.plot(found["mean"], place, **look)
    if len(found["by_seed"]) > 1:
        height = [place + 0.24] * len(found["by_seed"])
        axes.plot(found["by_seed"], height, ".", color=look["color"], markersize=4, alpha=0.7)
