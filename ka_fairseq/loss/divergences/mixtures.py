"""Compute how a mixture m of two distributions differs from one of them, from logarithms only.

m = own_share·own + (1 − own_share)·other, and d = log other − log own, shape (n, V).
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

# Above this, torch's softplus(x) is x. The difference is rounding, in float64 too. torch's default
# suits float32 only.
SAME = 50


def log_of_mixture(d: Tensor, own_share: float) -> Tensor:
    """Return log m(y) − log own(y) = log(own share) + softplus(log-odds of the other + d), (n, V).

    The result has all digits even if m is nearly ``own``, because no two logarithms are subtracted.
    """
    return F.softplus(d + _odds(own_share), threshold=SAME).add_(math.log(own_share))


def other_part(d: Tensor, own_share: float) -> Tensor:
    """Return (1 − own_share)·other(y) / m(y), from 0 to 1, shape (n, V)."""
    return (d + _odds(own_share)).sigmoid_()


def _odds(own_share: float) -> float:
    """Return the logarithm of the other share over the own share."""
    return math.log1p(-own_share) - math.log(own_share)
