"""How hidden states are kept: in 16 bits a number, or in 8 with a scale for each position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# The largest number of int8, of both signs.
_MOST = 127


@dataclass(frozen=True)
class HalfPrecision:
    """The bits of fp16 or bf16 numbers, as int16.

    Attributes:
        dtype: of the states as the loss reads them, and of the output projection.
    """

    dtype: torch.dtype
    numbers = np.int16
    scales = 0
    exact = True

    def pack(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States of shape (N, width) → what is kept: numbers likewise, and scales (N, 0)."""
        return states.to(self.dtype).view(torch.int16), states.new_empty(len(states), 0)

    def unpack(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """What `pack` gave, as states in :attr:`dtype`."""
        del scales
        return numbers.view(self.dtype)


@dataclass(frozen=True)
class EightBits:
    """int8 numbers n, and a float32 scale s of each position: h ≈ s·n, s = max |h| / 127.

    Rounding moves a number by s/2 at most.

    Attributes:
        dtype: of the states as the loss reads them, and of the output projection.
    """

    dtype: torch.dtype = torch.float16
    numbers = np.int8
    scales = 1
    exact = False

    def pack(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """States of shape (N, width) → what is kept: numbers likewise, and scales (N, 1)."""
        states = states.float()
        scales = states.abs().amax(-1, keepdim=True) / _MOST
        numbers = states / torch.where(scales > 0, scales, 1)
        return numbers.round().clamp(-_MOST, _MOST).to(torch.int8), scales

    def unpack(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """What `pack` gave, as states in :attr:`dtype`."""
        return (numbers.float() * scales.float()).to(self.dtype)


Storage = HalfPrecision | EightBits

STORAGES: dict[str, Storage] = {
    "fp16": HalfPrecision(torch.float16),
    "bf16": HalfPrecision(torch.bfloat16),
    "int8": EightBits(),
}
"""By the values of ``--teacher-cache-dtype``."""
