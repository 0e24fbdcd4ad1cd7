"""Whether a training was done: does its validation score still rise at its end?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

RISE = 0.3  # BLEU; a third of the smallest gap to the teacher that counts as one


@dataclass(frozen=True)
class Rise:
    """How a curve rises at its end.

    Attributes:
        per_epoch: the slope of the line, in points an epoch.
        epochs: how many of the last epochs the line was laid through.
    """

    per_epoch: float
    epochs: int


def still_rises(curve: Mapping[int, float]) -> Rise | None:
    """Return how a validation curve still rises at its end, or None where it does not.

    A line is laid by least squares through the last quarter of the epochs, three of them at least
    (two where there are no more). The curve rises where the line climbs by more than `RISE` from
    the first to the last of them with one standard error taken off, so that the noise of a flat
    curve is not called a rise. A quarter, as a curve that goes on like this gains about as much
    again by some more of the training; the standard error, as the noise differs with the size of
    the validation set and the learning rate, and the residuals of the line show how large it is
    (but for two epochs, where there are none).

    Args:
        curve: the score by epoch, in the order of the epochs.
    """
    if len(curve) < 2:
        return None
    last = max(3, math.ceil(len(curve) / 4))
    epochs, scores = list(curve)[-last:], list(curve.values())[-last:]
    line = stats.linregress(epochs, scores)
    length = epochs[-1] - epochs[0]
    # Of scores that are all the same scipy's standard error is NaN, which no comparison holds for.
    if not (line.slope - line.stderr) * length > RISE:
        return None
    return Rise(float(line.slope), len(epochs))
