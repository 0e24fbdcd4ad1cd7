"""Choose the code that computes a chunk's losses from its logits: Triton, torch.compile, or eager.

On a GPU, most of the time goes into passes over the memory, and the first two need fewer passes. A
kernel that must be compiled is first tried on two rows of the first batch. The training uses the
kernel only if this trial succeeds.
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

# Kernel and the circumstances of its trial → whether the kernel works.
_TRIED: dict[Hashable, bool] = {}


def check(kernel: str, name: str, divergence: Divergence, vocabulary: int) -> None:
    """Check that a kernel exists and computes a divergence.

    Args:
        kernel: the value of ``--loss-kernel``.
        name: the name of the divergence.
        divergence: D.
        vocabulary: V.

    Raises:
        UserError: the kernel is unknown, needs other software, or cannot compute the divergence.
    """
    if kernel not in KERNELS:
        raise UserError(f"unknown --loss-kernel {kernel!r}; choose from {', '.join(KERNELS)}")
    if kernel == COMPILED and not hasattr(torch, "compile"):
        raise UserError("--loss-kernel compiled needs torch 2 or newer: leave out --loss-kernel")
    if kernel == COMPILED and not divergence.compiles:
        raise UserError(f"--loss-kernel compiled cannot compile {name}: leave out --loss-kernel")
    if kernel != TRITON:
        return
    if importlib.util.find_spec("triton") is None:
        raise UserError(
            "--loss-kernel triton needs Triton, which comes with a torch for CUDA: install Triton, "
            "or leave out --loss-kernel"
        )
    if not in_the_kernel(divergence, vocabulary):
        raise UserError(
            f"--loss-kernel triton computes forward_kl, backward_kl, jsd_mixture and js over the "
            f"whole vocabulary, not {name} with these options: leave out --loss-kernel"
        )


def in_the_kernel(divergence: Divergence, vocabulary: int) -> bool:
    """Return whether :mod:`.row_kernel` computes a divergence; needs Triton."""
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
    """Return the kernel to use: the first kernel that can compute the loss and works here.

    Args:
        kernel: one of :data:`KERNELS`.
        divergence: D.
        vocabulary: V.
        device: the device of the logits.
        fuses: whether :mod:`.row_kernel` takes the logits: float32, and one teacher.
        trial: computes a few rows by the kernel of a given name.

    Raises:
        UserError: the kernel was asked for, and cannot compute the loss or does not work here.
    """
    if kernel == EAGER or (kernel == "auto" and device.type != "cuda"):
        return EAGER
    able = {TRITON: _can_fuse, COMPILED: _can_compile}
    for name in able if kernel == "auto" else (kernel,):
        key = (name, device, vocabulary, type(divergence), fuses)
        if not able[name](divergence, vocabulary, fuses):
            if kernel == name:
                raise UserError(
                    f"--loss-kernel {name} cannot compute this loss: leave out --loss-kernel"
                )
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
    """Try a kernel; log how long it took to compile, or why it does not work.

    Raises:
        UserError: the kernel was asked for by its name, and does not work.
    """
    start = time.perf_counter()
    try:
        trial(name)
    except Exception as error:  # from Triton, the C compiler or the driver
        reason = f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')}"
        if asked:
            raise UserError(
                f"--loss-kernel {name} does not work here ({reason}): leave out --loss-kernel"
            ) from error
        logger.warning(f"the {name} loss kernel does not work here, the loss is slower: {reason}")
        return False
    logger.info(f"loss kernel: {name}, ready after {time.perf_counter() - start:.1f} s")
    return True
