"""Place the names of points in a figure: beside their points, with little overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

_DISTANCES = (7, 15, 24)  # points of type
_DIRECTIONS = (45, 315, 135, 225, 90, 270, 0, 180)  # degrees; diagonal ones first
_POINT = 4.5  # half the size of a marker


def place(axes: Axes, labels: Sequence[Annotation]) -> None:
    """Move each annotation, in order, to the place with the least overlap with other elements.

    Args:
        axes: the axes with final limits and final sizes of all drawn elements.
        labels: annotations of points in data coordinates, offset in points of type.
    """
    scale = axes.figure.dpi / 72
    middles = [axes.transData.transform(label.xy) for label in labels]
    taken = [Bbox([m - _POINT * scale, m + _POINT * scale]) for m in middles]
    taken += [Bbox([m - scale, m + scale]) for line in axes.lines for m in _along(line, 4 * scale)]
    frame = axes.get_window_extent()
    for label in labels:
        choices = []
        for distance, degrees in itertools.product(_DISTANCES, _DIRECTIONS):
            _offset(label, distance, degrees)
            box = label.get_window_extent()
            covered = sum(_overlap(box, other) for other in taken)
            outside = box.width * box.height - _overlap(box, frame)
            choices.append((round(covered + 2 * outside), distance, degrees))
        _, distance, degrees = min(choices, key=lambda choice: choice[:2])
        _offset(label, distance, degrees)
        taken.append(label.get_window_extent())


def _along(line: Line2D, step: float) -> Iterator[np.ndarray]:
    """Yield points of a line at equal distances, over the visible part of the line."""
    if line.get_linestyle() == "None":
        return
    corners = line.axes.transData.transform(line.get_xydata())
    for start, end in itertools.pairwise(corners):
        for part in np.arange(0, 1, step / max(step, float(np.hypot(*(end - start))))):
            yield start + part * (end - start)


def _offset(label: Annotation, distance: float, degrees: float) -> None:
    x, y = (round(f(math.radians(degrees)), 6) for f in (math.cos, math.sin))
    label.set_position((distance * x, distance * y))
    label.set_horizontalalignment("center" if not x else "left" if x > 0 else "right")
    label.set_verticalalignment("center" if not y else "bottom" if y > 0 else "top")


def _overlap(one: Bbox, other: Bbox) -> float:
    """Return the area that both boxes cover."""
    common = Bbox.intersection(one, other)
    return 0.0 if common is None else common.width * common.height
