"""The divergence applies to high-loss tokens only (Wang et al. 2021, arXiv 2105.12967).

A position is hard where the learner's NLL is at or above a quantile: of the batch's own NLLs, or of
those of the last positions that were trained on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor


def quantile(values: Tensor, share: float) -> Tensor:
    """The least value that at least this share of the values is below or at, as a scalar.

    No value in between: it is one of them, so that "at or above" keeps one at the least, and all
    for a share of 0. Nothing here waits for a GPU.

    Args:
        values: shape (N,), N > 0.
        share: in [0, 1).
    """
    return values.kthvalue(1 + math.ceil(share * (len(values) - 1))).values


@dataclass
class HardPositions:
    """Which positions of one batch are hard.

    Attributes:
        share: r in [0, 1): the quantile.
        window: NLLs of the positions before, shape (M,); None takes the batch's own. With an empty
            one, all are hard.
        threshold: the NLL from which on a position is hard, a scalar.
        nll: the learner's NLL of each position, shape (N,), once the loss was computed.
    """

    share: float
    window: Tensor | None = None
    threshold: Tensor | None = field(default=None, init=False)
    nll: Tensor | None = field(default=None, init=False)

    def begin(self, position_nll: Callable[[], Tensor]) -> None:
        """Find the threshold.

        Args:
            position_nll: computes the batch's NLLs, which takes a projection of its own: asked only
                where there is no window.
        """
        values = position_nll() if self.window is None else self.window
        if len(values):
            self.threshold = quantile(values, self.share)
        else:
            self.threshold = torch.full((), -torch.inf, device=values.device)

    def end(self, nll: Tensor) -> None:
        """Take the NLLs, shape (N,), that the loss has found on its way."""
        self.nll = nll.clone()

    @property
    def count(self) -> Tensor:
        """How many positions were hard, a scalar on their device."""
        return self.nll.ge(self.threshold).sum()
