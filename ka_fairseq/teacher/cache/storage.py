"""Storage formats of hidden states: 16 bits a number, or 8 bits and a scale for each position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

# The largest int8 number whose negative is an int8 number too.
_MOST = 127


@dataclass(frozen=True)
class HalfPrecision:
    """Store fp16 or bf16 numbers, as int16 bits.

    Attributes:
        dtype: precision of the states for the loss, and of the output projection.
    """

    dtype: torch.dtype
    numbers = np.int16
    scales = 0
    exact = True

    def pack(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is stored of states (N, width): numbers (N, width), and scales (N, 0)."""
        return states.to(self.dtype).view(torch.int16), states.new_empty(len(states), 0)

    def unpack(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """Return the states that :meth:`pack` stored, in :attr:`dtype`."""
        del scales
        return numbers.view(self.dtype)


@dataclass(frozen=True)
class EightBits:
    """Store int8 numbers n, and a float32 scale s for each position: h ≈ s·n, s = max |h| / 127.

    Rounding changes a number by at most s/2.

    Attributes:
        dtype: precision of the states for the loss, and of the output projection.
    """

    dtype: torch.dtype = torch.float16
    numbers = np.int8
    scales = 1
    exact = False

    def pack(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Return what is stored of states (N, width): numbers (N, width), and scales (N, 1)."""
        states = states.float()
        scales = states.abs().amax(-1, keepdim=True) / _MOST
        numbers = states / torch.where(scales > 0, scales, 1)
        return numbers.round().clamp(-_MOST, _MOST).to(torch.int8), scales

    def unpack(self, numbers: Tensor, scales: Tensor) -> Tensor:
        """Return the states that :meth:`pack` stored, in :attr:`dtype`."""
        return (numbers.float() * scales.float()).to(self.dtype)


Storage = HalfPrecision | EightBits

STORAGES: dict[str, Storage] = {
    "fp16": HalfPrecision(torch.float16),
    "bf16": HalfPrecision(torch.bfloat16),
    "int8": EightBits(),
}
"""Value of ``--teacher-cache-dtype`` → storage format."""
