"""Which points of quality and speed are worth having: those that no other one dominates."""

from __future__ import annotations

import numpy as np


def dominates(quality: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return which point dominates which.

    One dominates another where it is at least as good and at least as fast, and one of both is
    more: ``q_i ≥ q_j``, ``s_i ≥ s_j``, and not both equal. So of two equal points neither does.

    Args:
        quality: (points,), as BLEU; more is better.
        speed: (points,), as sentences a second; likewise.

    Returns:
        (points, points), whether the one of the row dominates the one of the column.
    """
    quality, speed = np.asarray(quality, dtype=float), np.asarray(speed, dtype=float)
    better, faster = (values[:, None] > values[None, :] for values in (quality, speed))
    return (better & ~faster.T) | (faster & ~better.T)


def dominated(quality: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """Return (points,), whether any point dominates this one; arguments as of `dominates`."""
    return dominates(quality, speed).any(axis=0)


def dominator(quality: np.ndarray, speed: np.ndarray, point: int) -> int | None:
    """Return the best point that dominates this one, of equally good ones the fastest.

    Args:
        quality: as of `dominates`.
        speed: likewise.
        point: an index.

    Returns:
        Its index, or None where there is none. No point dominates it in its turn.
    """
    found = np.flatnonzero(dominates(quality, speed)[:, point])
    return max(map(int, found), key=lambda i: (quality[i], speed[i]), default=None)


def fastest(quality: np.ndarray, speed: np.ndarray, least: float) -> int | None:
    """Return the fastest point with a quality of at least `least`, of equally fast ones the best.

    None where no point is so good.
    """
    found = np.flatnonzero(np.asarray(quality) >= least)
    return max(map(int, found), key=lambda i: (speed[i], quality[i]), default=None)
