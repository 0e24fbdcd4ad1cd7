"""Compute a chunk's losses in one GPU kernel: NLL, divergence, both entropies, the best token.

Without this kernel, each operation is a pass over a chunk's (n × V) logits, and the logits go
through a GPU's memory 40 to 60 times. In this kernel, a program handles one row, and reads the row
three times: for the normalizers of both models, for the sums, and for the gradient. The gradient is
the only new tensor of size n × V. The formulas are those of :mod:`.objective` and
:mod:`.divergences`; tests compare the results.

The kernel is written in Triton, which is part of a torch for CUDA. Importing this module needs
Triton. With TRITON_INTERPRET=1 the kernel runs on a CPU, for the tests.
"""

# For a kernel's parameters, Triton accepts no annotation but tl.constexpr.
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ka_fairseq.loss.cross_entropy import smoothing
from ka_fairseq.loss.distribution import LOG_ZERO
from ka_fairseq.loss.divergences import Divergence, KLMixture
from ka_fairseq.loss.divergences.jensen_shannon import AT_AN_END, JensenShannon
from ka_fairseq.loss.objective import Objective, TransferLoss

# How many elements of a row a program holds at a time, and how many warps share them.
BLOCK, WARPS = 4096, 8

_LOG_ZERO = tl.constexpr(LOG_ZERO)
_VALUES = ("loss", "nll_loss", "transfer_loss", "entropy", "teacher_entropy")
_STORED = tl.constexpr(len(_VALUES))


class Shares(NamedTuple):
    """The divergence that the kernel computes.

    Attributes:
        forward: the share of KL(q‖p).
        backward: the share of KL(p‖q).
        js_beta: β of the generalized Jensen–Shannon divergence, which replaces the KLs; None keeps
            the KLs.
    """

    forward: float
    backward: float
    js_beta: float | None = None


def shares_of(divergence: Divergence, vocabulary: int) -> Shares | None:
    """Return a divergence's shares for the kernel, or None if the kernel cannot compute D.

    Args:
        divergence: D.
        vocabulary: V; a sum over the V best tokens is a sum over all tokens.
    """
    if isinstance(divergence, KLMixture):
        whole = divergence.top_k in (0, vocabulary)
        return Shares(divergence.forward, divergence.backward) if whole else None
    if isinstance(divergence, JensenShannon):
        if AT_AN_END < divergence.beta < 1 - AT_AN_END:
            return Shares(0.0, 0.0, divergence.beta)
        return Shares(1.0, 0.0) if divergence.beta < 0.5 else Shares(0.0, 1.0)
    return None


def fused_row_losses(
    logits: Tensor,
    teacher_logits: Tensor,
    teacher_entropy: Tensor | None,
    targets: Tensor,
    objective: Objective,
    gradient: torch.dtype | None,
    threshold: Tensor | None = None,
    best: Tensor | None = None,
) -> tuple[TransferLoss, Tensor]:
    """Return the losses of n rows, as :func:`.objective.row_losses` does, and their gradient.

    Args:
        logits: the student's logits, shape (n, V), float32, contiguous. A float32 gradient
            overwrites them.
        teacher_logits: the logits of a single teacher, of the same form; not changed.
        teacher_entropy: H(q), shape (n,); None computes it.
        targets: the reference tokens, shape (n,).
        objective: the kernel must be able to compute its divergence, see :func:`shares_of`.
        gradient: precision of the gradient: float32 or a half precision; None for no gradient.
        threshold: a scalar: D is 0 at positions with a smaller NLL. None keeps D everywhere.
        best: receives the student's best token of each row, shape (n,), int64.

    Returns:
        The losses, each of shape (n,), in nats; and the gradient with respect to the logits, shape
        (n, V), or the logits if ``gradient`` is None.
    """
    n, vocabulary = logits.shape
    shares = shares_of(objective.divergence, vocabulary)
    at_target, each = smoothing(objective.label_smoothing, vocabulary)
    values = logits.new_empty(n, len(_VALUES))
    if best is None and objective.accuracy:
        best = torch.empty_like(targets)
    out = logits
    if gradient not in (None, torch.float32):
        out = torch.empty_like(logits, dtype=gradient)
    beta = 0.5 if shares.js_beta is None else shares.js_beta
    _row_kernel[(n,)](
        *(logits, teacher_logits, targets, out, values),
        values if threshold is None else threshold,
        targets if best is None else best,
        *(vocabulary, logits.stride(0), teacher_logits.stride(0), out.stride(0)),
        *(shares.forward, shares.backward, beta, 1 / (beta * (1 - beta)) - 3),
        *(objective.weight_of_nll, objective.transfer_weight, at_target, each),
        objective.temperature,
        JS=shares.js_beta is not None,
        GRADIENT=gradient is not None,
        SOFTENED=objective.temperature != 1,
        THRESHOLD=threshold is not None,
        BEST=best is not None,
        NLL=objective.weight_of_nll != 0,
        BLOCK=min(BLOCK, triton.next_power_of_2(vocabulary)),
        num_warps=WARPS,
    )
    loss, nll, divergence, entropy, of_teacher = values.unbind(-1)
    correct = best.eq(targets).to(nll) if objective.accuracy else torch.zeros_like(nll)
    known = of_teacher if teacher_entropy is None else teacher_entropy.to(nll)
    return TransferLoss(loss, nll, divergence, entropy, known, correct), out


@triton.jit
def _log_of_mixture(x, log_share):
    """Return log m − log own = log(own share) + softplus(x); x: the log-odds of the other part."""
    return log_share + tl.maximum(x, 0.0) + tl.log(1.0 + tl.exp(-tl.abs(x)))


@triton.jit
def _row_kernel(
    logits_ptr,
    teacher_ptr,
    targets_ptr,
    gradient_ptr,
    values_ptr,
    threshold_ptr,
    best_ptr,
    vocabulary,
    logits_stride,
    teacher_stride,
    gradient_stride,
    forward,
    backward,
    beta,
    js_scale,
    of_nll,
    weight,
    at_target,
    each,
    temperature,
    JS: tl.constexpr,
    GRADIENT: tl.constexpr,
    SOFTENED: tl.constexpr,
    THRESHOLD: tl.constexpr,
    BEST: tl.constexpr,
    NLL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    # p, lp: the student's probabilities and log-probabilities; q, lq: the teacher's. Names with the
    # prefix s are at the temperature of D.
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * logits_stride
    teacher_ptr += row * teacher_stride
    gradient_ptr += row * gradient_stride
    inside = tl.arange(0, BLOCK)
    zero = tl.full((), 0.0, tl.float32)
    # This logit must be read now, because the gradient may overwrite it later. All threads wait for
    # each other at the first sums, so all of them have read it before that.
    target = tl.load(targets_ptr + row)
    at = tl.load(logits_ptr + target).to(tl.float32)

    p_max = tl.full((), -float("inf"), tl.float32)
    q_max = p_max
    p_sum = zero
    q_sum = zero
    sp_sum = zero
    sq_sum = zero
    for start in range(0, vocabulary, BLOCK):
        k = start + inside
        there = k < vocabulary
        z = tl.load(logits_ptr + k, mask=there, other=-float("inf")).to(tl.float32)
        u = tl.load(teacher_ptr + k, mask=there, other=-float("inf")).to(tl.float32)
        # If all tokens of a block have the logit −inf, their maximum is −inf. Without the limit
        # below, −inf − (−inf) would be NaN.
        larger = tl.maximum(tl.maximum(p_max, tl.max(z, 0)), -3.0e38)
        p_sum = p_sum * tl.exp(p_max - larger) + tl.sum(tl.exp(z - larger), 0)
        if SOFTENED:
            sp_sum = sp_sum * tl.exp((p_max - larger) / temperature)
            sp_sum += tl.sum(tl.exp((z - larger) / temperature), 0)
        p_max = larger
        larger = tl.maximum(tl.maximum(q_max, tl.max(u, 0)), -3.0e38)
        q_sum = q_sum * tl.exp(q_max - larger) + tl.sum(tl.exp(u - larger), 0)
        if SOFTENED:
            sq_sum = sq_sum * tl.exp((q_max - larger) / temperature)
            sq_sum += tl.sum(tl.exp((u - larger) / temperature), 0)
        q_max = larger
    log_p_sum = tl.log(p_sum)
    log_q_sum = tl.log(q_sum)
    # log p_τ = log p / τ − (log Σ exp(z/τ) − log Σ exp(z) / τ); the maxima cancel.
    sp_shift = tl.log(sp_sum) - log_p_sum / temperature if SOFTENED else zero
    sq_shift = tl.log(sq_sum) - log_q_sum / temperature if SOFTENED else zero
    nll = -tl.maximum(at - p_max - log_p_sum, _LOG_ZERO)

    log_sum = zero
    p_entropy = zero
    q_entropy = zero
    first = zero  # KL(q‖p), or KL(q‖m)
    second = zero  # KL(p‖q), or KL(p‖m)
    sq_total = zero
    best = vocabulary
    log_beta = tl.log(beta)
    log_rest = tl.log(1.0 - beta)
    for start in range(0, vocabulary, BLOCK):
        k = start + inside
        there = k < vocabulary
        z = tl.load(logits_ptr + k, mask=there, other=-float("inf")).to(tl.float32)
        u = tl.load(teacher_ptr + k, mask=there, other=-float("inf")).to(tl.float32)
        if BEST:
            best = tl.minimum(best, tl.min(tl.where(there & (z == p_max), k, vocabulary), 0))
        # The maximum is subtracted first and the other term second, so that large logits keep
        # their digits.
        lp = tl.maximum(z - p_max - log_p_sum, _LOG_ZERO)
        lq = tl.maximum(u - q_max - log_q_sum, _LOG_ZERO)
        p = tl.where(there, tl.exp(lp), 0.0)
        q = tl.where(there, tl.exp(lq), 0.0)
        log_sum += tl.sum(tl.where(there, lp, 0.0), 0)
        p_entropy -= tl.sum(p * lp, 0)
        q_entropy -= tl.sum(q * lq, 0)
        if SOFTENED:
            lp = tl.maximum(lp / temperature - sp_shift, _LOG_ZERO)
            lq = tl.maximum(lq / temperature - sq_shift, _LOG_ZERO)
            p = tl.where(there, tl.exp(lp), 0.0)
            q = tl.where(there, tl.exp(lq), 0.0)
        d = lp - lq
        sq_total += tl.sum(q, 0)
        if JS:
            odds = d + log_rest - log_beta
            first -= tl.sum(q * _log_of_mixture(odds, log_beta), 0)
            second -= tl.sum(p * _log_of_mixture(-odds, log_rest), 0)
        else:
            first -= tl.sum(q * d, 0)
            second += tl.sum(p * d, 0)

    if JS:
        divergence = tl.maximum(js_scale * (beta * first + (1.0 - beta) * second), 0.0)
    else:
        divergence = forward * tl.maximum(first, 0.0) + backward * tl.maximum(second, 0.0)
    divergence *= temperature * temperature
    hard = zero + 1.0
    if THRESHOLD:
        hard = tl.where(nll >= tl.load(threshold_ptr), 1.0, 0.0)
    divergence *= hard
    loss = weight * divergence
    if NLL:  # the NLL is left out if its weight is 0: 0 · NLL is NaN where p(target) is 0
        loss += of_nll * (at_target * nll - each * log_sum)
    values_ptr += row * _STORED
    tl.store(values_ptr, loss)
    tl.store(values_ptr + 1, nll)
    tl.store(values_ptr + 2, divergence)
    tl.store(values_ptr + 3, p_entropy)
    tl.store(values_ptr + 4, q_entropy)
    if BEST:
        tl.store(best_ptr + row, best)
    if not GRADIENT:
        return

    scale = weight * temperature * hard
    for start in range(0, vocabulary, BLOCK):
        k = start + inside
        there = k < vocabulary
        z = tl.load(logits_ptr + k, mask=there, other=-float("inf")).to(tl.float32)
        u = tl.load(teacher_ptr + k, mask=there, other=-float("inf")).to(tl.float32)
        lp = tl.maximum(z - p_max - log_p_sum, _LOG_ZERO)
        lq = tl.maximum(u - q_max - log_q_sum, _LOG_ZERO)
        slope = tl.where(k == target, -of_nll * at_target, 0.0)
        slope += of_nll * (tl.exp(lp) - each)
        if SOFTENED:
            lp = tl.maximum(lp / temperature - sp_shift, _LOG_ZERO)
            lq = tl.maximum(lq / temperature - sq_shift, _LOG_ZERO)
        p = tl.exp(lp)
        if JS:
            odds = lq - lp + log_beta - log_rest
            of_mixture = _log_of_mixture(odds, log_rest)  # log m − log p
            slope -= scale * js_scale * (1.0 - beta) * p * (of_mixture + second)
        else:
            slope += scale * (
                forward * (p * sq_total - tl.exp(lq)) + backward * p * (lp - lq - second)
            )
        tl.store(gradient_ptr + k, slope.to(gradient_ptr.dtype.element_ty), mask=there)
