"""Find the points of quality and speed that no other point dominates."""

from __future__ import annotations

import numpy as np


def dominates(quality: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return for each pair of points whether the first dominates the second.

    Point i dominates point j if ``q_i ≥ q_j`` and ``s_i ≥ s_j``, and the points are not equal. So
    two equal points do not dominate each other.

    Args:
        quality: (points,), such as BLEU; more is better.
        speed: (points,), such as sentences a second; more is better.

    Returns:
        (points, points), whether the row's point dominates the column's point.
    """
    quality, speed = np.asarray(quality, dtype=float), np.asarray(speed, dtype=float)
    better, faster = (values[:, None] > values[None, :] for values in (quality, speed))
    return (better & ~faster.T) | (faster & ~better.T)


def dominated(quality: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return (points,), whether any point dominates this point; arguments: see `dominates`."""
    return dominates(quality, speed).any(axis=0)


def dominator(quality: np.ndarray, speed: np.ndarray, point: int) -> int | None:
    """Return the best point that dominates a point; among equally good points, the fastest.

    Args:
        quality: see `dominates`.
        speed: see `dominates`.
        point: an index.

    Returns:
        The index of the dominating point, or None. No point dominates the returned point.
    """
    found = np.flatnonzero(dominates(quality, speed)[:, point])
    return max(map(int, found), key=lambda i: (quality[i], speed[i]), default=None)


def fastest(quality: np.ndarray, speed: np.ndarray, least: float) -> int | None:
    """Return the fastest point with at least this quality; among equally fast points, the best.

    None if no point has this quality.
    """
    found = np.flatnonzero(np.asarray(quality) >= least)
    return max(map(int, found), key=lambda i: (speed[i], quality[i]), default=None)
