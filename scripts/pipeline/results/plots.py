"""Draw the plots of a report: validation scores after each epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ka_fairseq.analysis import plotting
from pipeline.engine import files
from pipeline.models.model_list import Model

Curves = Mapping[str, Mapping[int, float]]


def styles(models: Iterable[Model]) -> dict[str, dict[str, Any]]:
    """Return the line style of each model by title; the whole page uses the same styles.

    Fine-tunings get their markers first. If another model has the same colour and marker, the
    function takes the next free marker, if any.
    """
    models = list(models)
    drawn = sorted(models, key=lambda model: not model.start)
    series = plotting.series_styles([model.name for model in drawn])
    markers, found = plotting.SERIES_MARKERS, {}
    for place, model in enumerate(drawn):
        colour = getattr(plotting, model.colour.upper(), model.colour)
        taken = {look["marker"] for look in found.values() if look["color"] == colour}
        order = [markers[(place + step) % len(markers)] for step in range(len(markers))]
        marker = next((marker for marker in order if marker not in taken), order[0])
        found[model.title] = {**series[model.name], "color": colour, "marker": marker}
    return {model.title: found[model.title] for model in models}


def plot_validation_bleu(curves: Curves, models: Sequence[Model], path: Path) -> None:
    """Draw BLEU by epoch: models trained from scratch on the left, fine-tunings on the right.

    Args:
        curves: BLEU after each epoch, by model.
        models: the models to draw.
        path: without a suffix; a PNG, an SVG and a CSV are written.
    """
    _keep_curves(curves, models, "bleu", path)
    with plotting.figure(path, plotting.FULL_PAGE, 3.9) as drawing:
        left, right = drawing.subplots(1, 2)
        tuned = [model for model in models if model.start]
        _draw(left, curves, [model for model in models if not model.start], models)
        _draw(right, curves, tuned, models)
        for start in dict.fromkeys(model.start for model in tuned if curves.get(model.name)):
            if curve := curves.get(start):
                style = {"color": _colour(start, models), "linestyle": "--"}
                right.axhline(max(curve.values()), label="starting point", **style)
        left.set(title="trained from scratch", ylabel="BLEU on validation (greedy)")
        right.set_title("fine-tuned")
        plotting.legend_above(drawing, columns=4)


def plot_transfer_loss(curves: Curves, models: Sequence[Model], path: Path) -> None:
    """Draw each fine-tuning's own divergence from the teacher by epoch.

    Args:
        curves: the divergence after each epoch, in bits per token, by model.
        models: the models to draw.
        path: without a suffix; a PNG, an SVG and a CSV are written.
    """
    _keep_curves(curves, models, "transfer_loss", path)
    with plotting.figure(path) as drawing:
        axes = drawing.subplots()
        _draw(axes, curves, models, models)
        axes.set_ylabel("D on validation (bits per token)")
        plotting.legend_above(drawing, columns=2)


def _keep_curves(curves: Curves, models: Iterable[Model], column: str, path: Path) -> None:
    """Write the numbers of a figure of curves: a row for each model and epoch."""
    rows = [
        (model.name, *place) for model in models for place in curves.get(model.name, {}).items()
    ]
    _keep(rows, ("model", "epoch", column), path)


def _keep(rows: Sequence[tuple[Any, ...]], columns: Sequence[str], path: Path) -> None:
    frame = pd.DataFrame(rows, columns=columns)
    files.write_text(Path(f"{path}.csv"), frame.to_csv(index=False))


def _draw(axes: Axes, curves: Curves, drawn: Iterable[Model], models: Sequence[Model]) -> None:
    looks = styles(models)
    for model in drawn:
        if curve := curves.get(model.name):
            axes.plot(list(curve), list(curve.values()), label=model.title, **looks[model.title])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")


def _colour(name: str, models: Sequence[Model]) -> str:
    return next(styles(models)[model.title]["color"] for model in models if model.name == name)
