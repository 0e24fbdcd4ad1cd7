"""A mixture m of two distributions, seen from one of them, by logarithms alone.

m = own_share·own + (1 − own_share)·other, and d = log other − log own, shape (n, V).
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn import functional as F

# From here on torch's softplus(x) is x: rounding, in float64 too. Its default is good for float32.
SAME = 50


def log_of_mixture(d: Tensor, own_share: float) -> Tensor:
    """log m(y) − log own(y): log(own share) + softplus(log-odds of the other + d), shape (n, V).

    It has all digits where m is nearly one's own: nothing is taken from another logarithm.
    """
    return F.softplus(d + _odds(own_share), threshold=SAME).add_(math.log(own_share))


def other_part(d: Tensor, own_share: float) -> Tensor:
    """(1 − own_share)·other(y) / m(y), from 0 to 1, shape (n, V)."""
    return (d + _odds(own_share)).sigmoid_()


def _odds(own_share: float) -> float:
    """The logarithm of the other's share over one's own."""
    return math.log1p(-own_share) - math.log(own_share)
