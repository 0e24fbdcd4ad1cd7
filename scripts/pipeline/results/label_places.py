"""Place the names of points in a figure: beside their points, with little overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.text import Annotation

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
    taken = [_square(middle, _POINT * scale) for middle in middles]
    taken += [_square(part, scale) for line in axes.lines for part in _along(line, 4 * scale)]
    frame = axes.get_window_extent().extents
    for label in labels:
        choices = []
        for distance, degrees in itertools.product(_DISTANCES, _DIRECTIONS):
            _offset(label, distance, degrees)
            box = label.get_window_extent().extents
            covered = _overlaps(box, np.array(taken)).sum()
            whole, inside = _overlaps(box, np.array([box, frame]))
            outside = whole - inside
            choices.append((round(covered + 2 * outside), distance, degrees))
        _, distance, degrees = min(choices, key=lambda choice: choice[:2])
        _offset(label, distance, degrees)
        taken.append(label.get_window_extent().extents)


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


def _square(middle: np.ndarray, half: float) -> np.ndarray:
    """Return a box: left, bottom, right, top."""
    return np.concatenate([middle - half, middle + half])


def _overlaps(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the area that a box shares with each of n boxes; shape (n,)."""
    common = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return common.clip(0).prod(axis=1)
