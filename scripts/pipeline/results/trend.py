"""Find out whether a validation score still rises at the end of a training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

RISE = 0.3  # BLEU; a third of the smallest gap to the teacher that counts as a gap


@dataclass(frozen=True)
class Rise:
    """The rise of a curve at its end.

    Attributes:
        per_epoch: the slope of the line, in points an epoch.
        epochs: the number of last epochs that the line was fitted to.
    """

    per_epoch: float
    epochs: int


def still_rises(curve: Mapping[int, float]) -> Rise | None:
    """Return how a validation curve still rises at its end, or None if it does not rise.

    A least-squares line is fitted to the last quarter of the epochs: at least three epochs, or two
    if there are only two. The curve rises if the line climbs by more than `RISE` over these epochs,
    with one standard error subtracted from the slope.

    A curve that goes on like its last quarter gains about as much again from a training that is a
    quarter longer. The standard error keeps the noise of a flat curve from counting as a rise. The
    noise depends on the size of the validation set and on the learning rate, and the residuals of
    the line show it. Two epochs have no residuals, so nothing is subtracted.

    Args:
        curve: the score by epoch, in the order of the epochs.
    """
    if len(curve) < 2:
        return None
    last = max(3, math.ceil(len(curve) / 4))
    epochs, scores = list(curve)[-last:], list(curve.values())[-last:]
    slope, error = _slope(epochs, scores)
    if (slope - error) * (epochs[-1] - epochs[0]) <= RISE:
        return None
    return Rise(slope, len(epochs))


def _slope(epochs: Sequence[int], scores: Sequence[float]) -> tuple[float, float]:
    """Return the slope of the least-squares line, and the slope's standard error."""
    if len(epochs) == 2:
        return float(np.polyfit(epochs, scores, 1)[0]), 0.0
    line, covariance = np.polyfit(epochs, scores, 1, cov=True)
    return float(line[0]), float(np.sqrt(covariance[0, 0]))
