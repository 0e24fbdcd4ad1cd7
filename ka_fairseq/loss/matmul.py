"""Matrix products that add up and answer in float32 or better, whatever the factors' precision.

Logits rounded to half precision and widened afterwards have a gradient that is off by several per
cent. Where the device can multiply half-precision matrices into float32 it does; elsewhere the
factors are widened first.
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

# The exponent of the largest element of a float16 factor: float16 ends at 65,504.
TOP = 14
# Rows whose largest element is below 2 to this count as if it were: 0 has no exponent.
LEAST = -60


@functools.cache
def multiplies_into_float32(device: torch.device) -> bool:
    """Whether the device takes half-precision factors and gives float32 (CUDA, newer torch)."""
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
            f"this GPU: the loss widens them and multiplies in TF32, or in float32 where the GPU "
            f"has no TF32, which takes longer; torch 2.8 or newer can"
        )
        return False


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The precision that autocast gives to matrix products on a GPU now; None where it is off."""
    if device.type != "cuda" or not torch.is_autocast_enabled():
        return None
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype("cuda")
    return torch.get_autocast_gpu_dtype()


class Factors(NamedTuple):
    """Two tensors as factors of one product.

    Attributes:
        hidden: the one.
        weight: the other, of the same precision.
        widened: whether both were of a half precision on a GPU, and were widened for it: see
            :func:`tensor_cores`.
    """

    hidden: Tensor
    weight: Tensor
    widened: bool


def factors(hidden: Tensor, weight: Tensor, rounded: torch.dtype | None) -> Factors:
    """Two tensors as factors of one :func:`product`, of one precision.

    Args:
        hidden: one tensor.
        weight: the other, maybe of another precision, as autocast leaves them.
        rounded: a half precision that both are to be rounded to, as autocast has it for a layer.
            None leaves both as they are. Where they differ, a GPU then takes the narrower one, for
            its tensor cores; a CPU, which has none, the wider one.
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
    """A tensor as :func:`product` takes it, outside of any graph; None stays None."""
    if tensor is None:
        return None
    if tensor.dtype in HALF and not multiplies_into_float32(tensor.device):
        return tensor.detach().float()
    return tensor.detach()


@contextlib.contextmanager
def tensor_cores(widened: bool) -> Iterator[None]:
    """Have a GPU make the products inside in TF32, if their factors were widened.

    TF32 has float32's exponents and 10 bits behind the point, and adds up in float32. float16 has
    10 bits and bfloat16 7: what was widened is not rounded. A float32 gradient beside it is rounded
    to 10 bits, as it would be to float16.

    Args:
        widened: what :func:`factors` says. False changes nothing.
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
    """a @ b in float32 or better.

    Args:
        a: shape (n, m), from :func:`factor`.
        b: shape (m, v), of the same dtype.
        out: shape (n, v), where to write.
    """
    if a.dtype in HALF:
        return torch.mm(a, b, out_dtype=torch.float32, out=out)
    return torch.mm(a, b, out=out)


def add_product(
    into: Tensor, a: Tensor, b: Tensor, scale: Tensor | None = None, *, keep: bool = True
) -> None:
    """into = into + scale · a @ b, see :func:`product`; a scale beside float16 only.

    A scale on a GPU cannot be the product's own, which would have to wait for it.

    With ``keep`` false, what was in ``into`` is not read, and may be anything.
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
    """result · scale, in place; None is 1."""
    return result if scale is None else result.mul_(scale)


class GradientFactors(NamedTuple):
    """The gradient of n rows' logits, as a factor beside a weight and beside the hidden states.

    Attributes:
        of_logits: the gradient, shape (n, V).
        hidden: the hidden states, shape (n, d), for the product with it.
        unscale_rows: what to multiply ``of_logits @ weight`` by, shape (n, 1); None is 1.
        unscale: what to multiply ``of_logits.T @ hidden`` by, a scalar; None is 1.
    """

    of_logits: Tensor
    hidden: Tensor
    unscale_rows: Tensor | None = None
    unscale: Tensor | None = None


def gradient_factors(gradient: Tensor, hidden: Tensor) -> GradientFactors:
    """A float32 gradient of logits in the precision of the hidden states that it is multiplied by.

    bfloat16 has float32's range, and needs no scale. float16 has not, and the gradient has not been
    through the loss scaler yet. So each row n gets a scale a_n, and its hidden states a scale b_n,
    with a_n·b_n the same for all rows: the product over the rows is undone by one number. All
    scales are powers of two, which round nothing.

    The row with the largest product of both largest elements has these at 2^14. In a row whose
    product is 2^k times smaller, each is 2^(k/2) times smaller: up to k = 50, the largest elements
    keep all of float16's digits.

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
    """⌊log₂ of each row's largest absolute value⌋, shape (n, m) → (n, 1), int32; float32 only."""
    largest = torch.linalg.vector_norm(values, torch.inf, dim=-1, keepdim=True)
    return ((largest.view(torch.int32) >> 23) - 127).clamp(min=LEAST)


def _scaled_to_float16(values: Tensor, exponents: Tensor) -> Tensor:
    """Rows times powers of two, in one pass over memory."""
    out = torch.empty_like(values, dtype=torch.float16)
    return torch.mul(values, power_of_two(exponents), out=out)


def power_of_two(exponents: Tensor) -> Tensor:
    """2 to int32 exponents, in float32, to the last bit; those beyond its normal range at its ends.

    By its bits: a GPU's ``pow`` may round.
    """
    return ((exponents.clamp(-126, 127) + 127) << 23).view(torch.float32)
