"""Matrix products that accumulate and return float32 or better, for factors of any precision.

If logits are rounded to half precision and widened afterwards, their gradient is wrong by several
per cent. So the product of half-precision factors is accumulated and returned in float32. If the
device cannot do this, the factors are widened first.
"""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

HALF = (torch.float16, torch.bfloat16)

# The exponent of the largest element of a scaled float16 factor. float16 ends at 65,504.
TOP = 14
# The least exponent of a row's largest element. Rows with smaller elements get this exponent too,
# because 0 has no exponent.
LEAST = -60


@functools.cache
def multiplies_into_float32(device: torch.device) -> bool:
    """Return whether the device multiplies half precision into float32 (CUDA, newer torch)."""
    if device.type != "cuda":
        return False
    probe = torch.ones(16, 16, dtype=torch.float16, device=device)
    into = torch.zeros(16, 16, device=device)
    try:
        torch.mm(probe, probe, out_dtype=torch.float32, out=into)
        add_product(into, probe, probe)
        return True
    except (TypeError, RuntimeError, NotImplementedError):
        logger.warning(
            f"torch {torch.__version__} cannot multiply half-precision matrices into float32 on "
            f"this GPU: the loss widens the matrices and multiplies in TF32 (in float32 if the GPU "
            f"has no TF32), which takes longer; use torch 2.8 or newer"
        )
        return False


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """Return autocast's precision of matrix products on a GPU; None if autocast is off."""
    if device.type != "cuda" or not torch.is_autocast_enabled():
        return None
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype("cuda")
    return torch.get_autocast_gpu_dtype()


class Factors(NamedTuple):
    """Two tensors, ready as factors of one product.

    Attributes:
        hidden: the first factor.
        weight: the second factor, of the same precision.
        widened: whether both factors were widened from half precision on a GPU, see
            :func:`tensor_cores`.
    """

    hidden: Tensor
    weight: Tensor
    widened: bool


def factors(hidden: Tensor, weight: Tensor, rounded: torch.dtype | None) -> Factors:
    """Return two tensors as factors of one :func:`product`, in one precision.

    Args:
        hidden: the first tensor.
        weight: the second tensor; autocast may leave it in another precision.
        rounded: a half precision for both, as autocast rounds a layer's factors. None keeps the
            precision. If the precisions differ, a GPU takes the narrower precision, for its tensor
            cores. A CPU has no tensor cores and takes the wider precision.
    """
    if rounded is None and hidden.dtype != weight.dtype:
        both = (hidden.dtype, weight.dtype)
        rounded = torch.promote_types(*both)
        if hidden.device.type != "cpu" and rounded in both:
            (rounded,) = {*both} - {rounded}
    if rounded is not None:
        hidden, weight = hidden.detach().to(rounded), weight.detach().to(rounded)
    made = factor(hidden), factor(weight)
    widened = made[0].dtype != hidden.dtype and hidden.device.type != "cpu"
    return Factors(*made, widened)


def factor(tensor: Tensor | None) -> Tensor | None:
    """Return a tensor without its graph, as :func:`product` takes it; None stays None."""
    if tensor is None:
        return None
    if tensor.dtype in HALF and not multiplies_into_float32(tensor.device):
        return tensor.detach().float()
    return tensor.detach()


@contextlib.contextmanager
def tensor_cores(widened: bool) -> Iterator[None]:
    """Make a GPU multiply in TF32 inside this context, if the factors were widened.

    TF32 has float32's exponents and 10 fraction bits, and accumulates in float32. float16 has 10
    fraction bits and bfloat16 has 7, so widened factors are not rounded. A float32 gradient as the
    other factor is rounded to 10 bits, as it would be in float16.

    Args:
        widened: see :class:`Factors`. False changes nothing.
    """
    before = torch.backends.cuda.matmul.allow_tf32 if widened else None
    try:
        if widened:
            torch.backends.cuda.matmul.allow_tf32 = True
        yield
    finally:
        if widened:
            torch.backends.cuda.matmul.allow_tf32 = before


def product(a: Tensor, b: Tensor, out: Tensor | None = None) -> Tensor:
    """Return a @ b in float32 or better.

    Args:
        a: shape (n, m), from :func:`factor`.
        b: shape (m, v), of the same dtype.
        out: shape (n, v), receives the result.
    """
    if a.dtype in HALF:
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    return torch.mm(a, b, out=out)


def add_product(
    into: Tensor, a: Tensor, b: Tensor, scale: Tensor | None = None, *, keep: bool = True
) -> None:
    """Compute into = into + scale · a @ b, see :func:`product`; only float16 factors take a scale.

    The scale is not an argument of torch's product, which would wait for a scale on a GPU. With
    ``keep`` false, the old content of ``into`` is not read and may be anything.
    """
    if a.dtype not in HALF:
        into.addmm_(a, b, beta=1 if keep else 0)
    elif not keep:
        scaled(product(a, b, out=into), scale)
    elif scale is not None:
        into.addcmul_(product(a, b), scale)
    else:
        torch.addmm(into, a, b, out_dtype=torch.float32, out=into)


def scaled(result: Tensor, scale: Tensor | None) -> Tensor:
    """Multiply a result by a scale, in place; None is 1."""
    return result if scale is None else result.mul_(scale)


class GradientFactors(NamedTuple):
    """The gradient of n rows' logits, as a factor for the weight and for the hidden states.

    Attributes:
        of_logits: the gradient, shape (n, V).
        hidden: the hidden states, shape (n, d), for the product with the gradient.
        unscale_rows: multiply ``of_logits @ weight`` by this, shape (n, 1); None is 1.
        unscale: multiply ``of_logits.T @ hidden`` by this scalar; None is 1.
    """

    of_logits: Tensor
    hidden: Tensor
    unscale_rows: Tensor | None = None
    unscale: Tensor | None = None


def gradient_factors(gradient: Tensor, hidden: Tensor) -> GradientFactors:
    """Return a float32 gradient of logits, rounded to the precision of the hidden states.

    bfloat16 has float32's range and needs no scale. float16 has a smaller range, and the loss
    scaler has not scaled the gradient yet. So each row n of the gradient gets a scale a_n, and each
    row n of the hidden states a scale b_n. a_n·b_n is the same for all rows, so one number undoes
    the scale of the product over the rows. All scales are powers of two, which round nothing.

    For each row, take the product of the gradient's and the hidden states' largest elements. In the
    row with the largest product, both elements are scaled to 2^14. If a row's product is 2^k times
    smaller, both elements are 2^(k/2) times smaller. Up to k = 50, the largest elements keep all of
    float16's digits.

    Args:
        gradient: shape (n, V).
        hidden: shape (n, d), from :func:`factor`.
    """
    if hidden.dtype != torch.float16:
        return GradientFactors(gradient.to(hidden.dtype), hidden)
    of_gradient, of_hidden = _largest_exponents(gradient), _largest_exponents(hidden.float())
    of_product = of_gradient + of_hidden
    largest = of_product.amax()
    smaller = largest - of_product
    half = smaller >> 1
    scale_exponent = TOP - half - of_gradient
    return GradientFactors(
        _scaled_to_float16(gradient, scale_exponent),
        _scaled_to_float16(hidden, TOP - (smaller - half) - of_hidden),
        power_of_two(-scale_exponent),
        power_of_two(largest - 2 * TOP),
    )


def _largest_exponents(values: Tensor) -> Tensor:
    """Return ⌊log₂ of each row's largest absolute value⌋, (n, m) → (n, 1), int32; float32 only."""
    largest = torch.linalg.vector_norm(values, torch.inf, dim=-1, keepdim=True)
    return ((largest.view(torch.int32) >> 23) - 127).clamp(min=LEAST)


def _scaled_to_float16(values: Tensor, exponents: Tensor) -> Tensor:
    """Return rows times powers of two in float16, in one pass over memory."""
    out = torch.empty_like(values, dtype=torch.float16)
    return torch.mul(values, power_of_two(exponents), out=out)


def power_of_two(exponents: Tensor) -> Tensor:
    """Return 2 to the power of int32 exponents, exact in float32.

    Exponents outside float32's normal range are moved to its ends. The numbers are made from their
    bits, because a GPU's ``pow`` may round.
    """
    return ((exponents.clamp(-126, 127) + 127) << 23).view(torch.float32)
