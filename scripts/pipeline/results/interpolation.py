"""One curve of quality over speed against another: between its points each is a straight line.

The line is straight in BLEU and the logarithm of the speed. A curve goes through those points of a
method that no other of its own dominates, so along it speed rises as quality falls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.results import frontier

Curve = tuple[np.ndarray, np.ndarray]
"""x of the corners of a broken line, rising, and its values there."""


def curve(quality: Sequence[float], speed: Sequence[float]) -> Curve:
    """Return the curve through points: natural logarithms of speeds, rising, and qualities.

    Args:
        quality: (points,), as BLEU.
        speed: (points,), above 0, as sentences a second.
    """
    quality, speed = np.asarray(quality, dtype=float), np.asarray(speed, dtype=float)
    kept = ~frontier.dominated(quality, speed)
    # Of points with the same speed and quality, one.
    logs, places = np.unique(np.log(speed[kept]), return_index=True)
    return logs, quality[kept][places]


def mean_gap(one: Curve, other: Curve) -> float | None:
    """Return how far one broken line lies above another, as mean over what both cover.

    The mean is ``∫ (f(x) - g(x)) dx / ∫ dx`` over the common range of x. It is exact: both are
    straight between all their corners.

    Args:
        one: x of its corners, rising, and its values there.
        other: likewise.

    Returns:
        None where they have no x in common. Where they have a single one, the difference there.
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
    """Speed over quality: quality rises where the logarithm of the speed falls."""
    logs, quality = found
    return quality[::-1], logs[::-1]
