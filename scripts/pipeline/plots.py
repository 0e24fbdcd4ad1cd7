"""The plots of a report: what validation said after each epoch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ka_fairseq.analysis import plotting

Curves = Mapping[str, Mapping[int, float]]

# In the order in which ka_fairseq.analysis colours its runs, so that a model has one colour on the
# whole page.
FINE_TUNED = ("kd", "ka", "mixture", "topk", "control")
_BASES = {
    "teacher": {"color": plotting.BLACK, "marker": "s"},
    "learner": {"color": plotting.GREY, "marker": "o"},
}
_STYLES = {**_BASES, **plotting.series_styles(FINE_TUNED)}


def plot_validation_bleu(curves: Curves, names: Mapping[str, str], path: Path) -> None:
    """Draw BLEU by epoch: the two trained from nothing left, the fine-tunings right.

    Args:
        curves: BLEU after each epoch, by model.
        names: what the models are called.
        path: without a suffix; a PNG and an SVG are written.
    """
    with plotting.figure(path, plotting.FULL_PAGE, 3.9) as drawing:
        left, right = drawing.subplots(1, 2)
        _draw(left, {m: curve for m, curve in curves.items() if m in _BASES}, names)
        _draw(right, {m: curve for m, curve in curves.items() if m not in _BASES}, names)
        if curves.get("learner"):
            best = max(curves["learner"].values())
            right.axhline(best, color=plotting.GREY, linestyle="--", label="where they start")
        left.set(title="trained from nothing", ylabel="BLEU on validation (greedy)")
        right.set_title("the learner, fine-tuned")
        plotting.legend_above(drawing, columns=4)


def plot_transfer_loss(curves: Curves, names: Mapping[str, str], path: Path) -> None:
    """Draw each fine-tuning's own divergence from the teacher by epoch.

    Args:
        curves: the divergence after each epoch, in bits per token, by model.
        names: what the models are called.
        path: without a suffix; a PNG and an SVG are written.
    """
    with plotting.figure(path) as drawing:
        axes = drawing.subplots()
        _draw(axes, curves, names)
        axes.set_ylabel("D on validation (bits per token)")
        plotting.legend_above(drawing, columns=2)


def _draw(axes: Axes, curves: Curves, names: Mapping[str, str]) -> None:
    for model, curve in curves.items():
        if curve:
            axes.plot(list(curve), list(curve.values()), label=names[model], **_STYLES[model])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
