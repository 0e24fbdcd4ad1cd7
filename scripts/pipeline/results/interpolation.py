"""Compare two curves of quality over speed.

A curve goes through those points of a method that no other point of the method dominates. So
quality falls along the curve as speed rises. Between two points the curve is a straight line in
BLEU over the logarithm of the speed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.results import frontier

Curve = tuple[np.ndarray, np.ndarray]
"""A line through corners: the rising x of the corners, and the values at the corners."""


def curve(quality: Sequence[float], speed: Sequence[float]) -> Curve:
    """Return the curve of points: the rising natural logarithms of the speeds, and the qualities.

    Args:
        quality: (points,), such as BLEU.
        speed: (points,), above 0, such as sentences a second.
    """
    quality, speed = np.asarray(quality, dtype=float), np.asarray(speed, dtype=float)
    kept = ~frontier.dominated(quality, speed)
    # Keep one of several points with the same speed and quality.
    logs, places = np.unique(np.log(speed[kept]), return_index=True)
    return logs, quality[kept][places]


def mean_gap(one: Curve, other: Curve) -> float | None:
    """Return how far one line lies above another, as the mean over their common range.

    The mean is ``∫ (f(x) - g(x)) dx / ∫ dx`` over the common range of x. The result is exact,
    because both lines are straight between their corners.

    Args:
        one: the rising x of the corners, and the values at the corners.
        other: the same for the other line.

    Returns:
        None if the lines have no x in common. If they have a single x in common, the difference
        at this x.
    """
    low, high = max(one[0][0], other[0][0]), min(one[0][-1], other[0][-1])
    if low > high:
        return None
    corners = np.unique(np.concatenate([one[0], other[0], [low, high]]))
    corners = corners[(corners >= low) & (corners <= high)]
    gaps = np.interp(corners, *one) - np.interp(corners, *other)
    if len(corners) == 1:
        return float(gaps[0])
    area = np.sum(np.diff(corners) * (gaps[1:] + gaps[:-1]) / 2)
    return float(area / (high - low))


def worth_at_equal_speed(
    one: tuple[np.ndarray, ...], other: tuple[np.ndarray, ...]
) -> float | None:
    """Return how much better one `curve` is than another at equal speed, in points of quality."""
    return mean_gap(one, other)


def worth_at_equal_quality(one: Curve, other: Curve) -> float | None:
    """Return how many times faster one `curve` is than another at equal quality."""
    gap = mean_gap(_turned(one), _turned(other))
    return None if gap is None else float(np.exp(gap))


def _turned(found: Curve) -> Curve:
    """Return the curve with both axes swapped: the logarithm of the speed over quality."""
    logs, quality = found
    return quality[::-1], logs[::-1]
