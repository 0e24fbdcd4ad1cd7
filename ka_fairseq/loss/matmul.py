"""Matrix products that add up and answer in float32 or better, whatever the factors' precision.

Logits rounded to half precision and widened afterwards have a gradient that is off by several per
cent. Where the device can multiply half-precision matrices into float32 it does; elsewhere the
factors are widened first.
"""

from __future__ import annotations

import functools
import logging

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

HALF = (torch.float16, torch.bfloat16)

# The largest gradient of a logit is brought to this before it is rounded to half precision: far
# from float16's limits, 65,504 above and 6e-8 below.
LARGEST = 2.0**10


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
            f"this GPU: the loss multiplies in float32, which takes many times as long; torch 2.8 "
            f"or newer can"
        )
        return False


def autocast_dtype(device: torch.device) -> torch.dtype | None:
    """The precision that autocast gives to matrix products on a GPU now; None where it is off."""
    if device.type != "cuda" or not torch.is_autocast_enabled():
        return None
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype("cuda")
    return torch.get_autocast_gpu_dtype()


def factors(hidden: Tensor, weight: Tensor, rounded: torch.dtype | None) -> tuple[Tensor, Tensor]:
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
    return factor(hidden), factor(weight)


def factor(tensor: Tensor | None) -> Tensor | None:
    """A tensor as :func:`product` takes it, outside of any graph; None stays None."""
    if tensor is None:
        return None
    if tensor.dtype in HALF and not multiplies_into_float32(tensor.device):
        return tensor.detach().float()
    return tensor.detach()


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


def gradient_factor(gradient: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor | None]:
    """A float32 gradient as a factor beside tensors of ``dtype``, and what to multiply results by.

    In float16 it is scaled by its largest element first: it has not been through the loss scaler
    yet, and small values would be lost. bfloat16 has float32's range, and needs no scale.
    """
    if dtype not in HALF:
        return gradient, None
    if dtype == torch.bfloat16:
        return gradient.to(dtype), None
    largest = torch.linalg.vector_norm(gradient, torch.inf)
    scale = LARGEST / largest.clamp(min=torch.finfo(torch.float32).tiny)
    scale = scale.clamp(max=torch.finfo(torch.float32).max)
    return (gradient * scale).to(dtype), 1.0 / scale
