"""A weight that changes over the updates of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Shape → function of the progress (0 to 1): the share of the change so far.
SHAPES = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """A change from one value to another over a number of updates; constant afterwards.

    Attributes:
        shape: a key of :data:`SHAPES`.
        start: the value at the first update.
        end: the value from update number ``updates`` on.
        updates: number of updates, 1 or more.
    """

    shape: str
    start: float
    end: float
    updates: int

    def at(self, update: int | None) -> float:
        """Return the value at an update, the first being number 0; None gives the final value."""
        if update is None or update >= self.updates:
            return self.start if self.shape == "constant" else self.end
        return self.start + (self.end - self.start) * SHAPES[self.shape](update / self.updates)
