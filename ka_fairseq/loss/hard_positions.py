"""Apply the divergence to high-loss tokens only (Wang et al. 2021, arXiv 2105.12967).

A position is hard if the student's NLL there is at or above a quantile. The quantile is taken over
the batch's own NLLs, or over the NLLs of the last training positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


def quantile(values: Tensor, share: float) -> Tensor:
    """Return a quantile: the least value with at least this share of the values at or below it.

    The quantile is one of the values, never between two values. So "at or above" keeps at least one
    value, and keeps all values for a share of 0. The function does not wait for a GPU.

    Args:
        values: shape (N,), N > 0.
        share: in [0, 1).
    """
    return values.kthvalue(1 + math.ceil(share * (len(values) - 1))).values


@dataclass
class HardPositions:
    """The hard positions of one batch.

    Attributes:
        share: r in [0, 1): the quantile.
        window: NLLs of earlier positions, shape (M,); None takes the batch's own NLLs. With an
            empty window, all positions are hard.
        threshold: a scalar; positions with an NLL at or above the threshold are hard.
        nll: the student's NLL of each position, shape (N,), after the loss was computed.
    """

    share: float
    window: Tensor | None = None
    threshold: Tensor | None = field(default=None, init=False)
    nll: Tensor | None = field(default=None, init=False)

    def begin(self, position_nll: Callable[[], Tensor]) -> None:
        """Find the threshold.

        Args:
            position_nll: computes the batch's NLLs by a further projection; called only if there
                is no window.
        """
        values = position_nll() if self.window is None else self.window
        if len(values):
            self.threshold = quantile(values, self.share)
        else:
            self.threshold = torch.full((), -torch.inf, device=values.device)

    def end(self, nll: Tensor) -> None:
        """Store the NLLs, shape (N,), that the loss has computed."""
        self.nll = nll.clone()

    @property
    def count(self) -> Tensor:
        """Return the number of hard positions, a scalar on their device."""
        return self.nll.ge(self.threshold).sum()
