"""What computes the losses of a chunk from its logits: one kernel, compiled code, or op by op.

On a GPU, passes over memory are what takes time. What has to be compiled is tried once, on two rows
of the first batch, before a training relies on it.
"""

from __future__ import annotations

import importlib.util
import logging
import time
from collections.abc import Callable, Hashable

import torch

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import Divergence

logger = logging.getLogger(__name__)

TRITON, COMPILED, EAGER = "triton", "compiled", "eager"
KERNELS = ("auto", TRITON, COMPILED, EAGER)

# By kernel and what it was tried for: whether it works.
_TRIED: dict[Hashable, bool] = {}


def check(kernel: str, name: str, divergence: Divergence, vocabulary: int) -> None:
    """Check that a kernel exists and computes a divergence.

    Args:
        kernel: what ``--loss-kernel`` says.
        name: of the divergence.
        divergence: D.
        vocabulary: V.

    Raises:
        UserError: it does not; the message says what does.
    """
    if kernel not in KERNELS:
        raise UserError(f"unknown --loss-kernel {kernel!r}; choose from {', '.join(KERNELS)}")
    if kernel == COMPILED and not hasattr(torch, "compile"):
        raise UserError("--loss-kernel compiled needs torch 2 or newer: leave it out")
    if kernel == COMPILED and not divergence.compiles:
        raise UserError(f"--loss-kernel compiled cannot compile {name}: leave it out")
    if kernel != TRITON:
        return
    if importlib.util.find_spec("triton") is None:
        raise UserError(
            "--loss-kernel triton needs Triton, which comes with a torch for CUDA: leave it out"
        )
    if not in_the_kernel(divergence, vocabulary):
        raise UserError(
            f"--loss-kernel triton computes forward_kl, backward_kl, jsd_mixture and js over the "
            f"whole vocabulary, not {name} with these options: leave it out"
        )


def in_the_kernel(divergence: Divergence, vocabulary: int) -> bool:
    """Whether :mod:`.row_kernel`, which has to be there, computes a divergence."""
    from ka_fairseq.loss.row_kernel import shares_of

    return shares_of(divergence, vocabulary) is not None


def choose(
    kernel: str,
    divergence: Divergence,
    vocabulary: int,
    device: torch.device,
    fuses: bool,
    trial: Callable[[str], object],
) -> str:
    """The kernel to use: the first that can compute it and works here.

    Args:
        kernel: one of :data:`KERNELS`.
        divergence: D.
        vocabulary: V.
        device: where the logits are.
        fuses: whether they are what :mod:`.row_kernel` takes: float32, of one teacher.
        trial: computes a few rows by the kernel it is told.

    Raises:
        UserError: the kernel that was asked for cannot compute it, or does not work here.
    """
    if kernel == EAGER or (kernel == "auto" and device.type != "cuda"):
        return EAGER
    able = {TRITON: _can_fuse, COMPILED: _can_compile}
    for name in able if kernel == "auto" else (kernel,):
        key = (name, device, vocabulary, type(divergence), fuses)
        if not able[name](divergence, vocabulary, fuses):
            if kernel == name:
                raise UserError(f"--loss-kernel {name} cannot compute this loss: leave it out")
            continue
        if key not in _TRIED:
            _TRIED[key] = _works(name, trial, asked=kernel == name)
        if _TRIED[key]:
            return name
    return EAGER


def _can_fuse(divergence: Divergence, vocabulary: int, fuses: bool) -> bool:
    there = fuses and importlib.util.find_spec("triton") is not None
    return there and in_the_kernel(divergence, vocabulary)


def _can_compile(divergence: Divergence, vocabulary: int, fuses: bool) -> bool:
    del vocabulary, fuses
    return hasattr(torch, "compile") and divergence.compiles


def _works(name: str, trial: Callable[[str], object], asked: bool) -> bool:
    """Try a kernel; say how long it took to compile, or why it cannot be had.

    Raises:
        UserError: it was asked for by its name, and does not work.
    """
    start = time.perf_counter()
    try:
        trial(name)
    except Exception as error:  # of Triton, of the C compiler, of the driver
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
        if asked:
            raise UserError(
                f"--loss-kernel {name} does not work here ({reason}): leave it out"
            ) from error
        logger.warning(f"the loss goes without its {name} kernel, more slowly: {reason}")
        return False
    logger.info(f"loss kernel: {name}, ready after {time.perf_counter() - start:.1f} s")
    return True
