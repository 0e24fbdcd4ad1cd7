"""A weight that changes over the updates of a training."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of the progress from 0 to 1: how much of the way has been made.
SHAPES = {
    "constant": lambda progress: 0.0,
    "linear": lambda progress: progress,
    "cosine": lambda progress: (1 - math.cos(math.pi * progress)) / 2,
}


@dataclass(frozen=True)
class Schedule:
    """From one value to another over a number of updates, and then no further.

    Attributes:
        shape: a key of :data:`SHAPES`.
        start: the value of the first update.
        end: the value from update number ``updates`` on.
        updates: 1 or more.
    """

    shape: str
    start: float
    end: float
    updates: int

    def at(self, update: int | None) -> float:
        """The value of an update, the first being number 0; of None, what it comes to."""
        if update is None or update >= self.updates:
            return self.start if self.shape == "constant" else self.end
        return self.start + (self.end - self.start) * SHAPES[self.shape](update / self.updates)
