"""Every divergence once more, as its formula stands in docs/methods.md: for autograd, in float64.

Functions of log-probabilities, (n, V) and (n, V) → (n,), with the default of each option.
"""

from __future__ import annotations

import torch
from torch import Tensor


def kl(log_a: Tensor, log_b: Tensor) -> Tensor:
    """KL(a‖b)."""
    return (log_a.exp() * (log_a - log_b)).sum(-1)


def mixed(share: float, log_a: Tensor, log_b: Tensor) -> Tensor:
    """The logarithm of share·a + (1 − share)·b."""
    return (share * log_a.exp() + (1 - share) * log_b.exp()).log()


def adaptive(lp: Tensor, lq: Tensor) -> Tensor:
    """The head is what holds half of q; its part of the gap, which has no gradient, weighs KD."""
    gap = (lp.exp() - lq.exp()).abs().detach()
    ordered, types = lq.exp().sort(-1, descending=True)
    head = ordered.cumsum(-1).le(0.5)
    head[:, 0] = True
    share = (gap.gather(-1, types) * head).sum(-1) / gap.sum(-1)
    return share * kl(lq, lp) + (1 - share) * kl(lp, lq)


FORMULAS = {
    "forward_kl": lambda lp, lq: kl(lq, lp),
    "backward_kl": lambda lp, lq: kl(lp, lq),
    "jsd_mixture": lambda lp, lq: 0.5 * kl(lq, lp) + 0.5 * kl(lp, lq),
    "js": lambda lp, lq: 0.5 * kl(lq, mixed(0.5, lq, lp)) + 0.5 * kl(lp, mixed(0.5, lq, lp)),
    "skew_forward_kl": lambda lp, lq: kl(lq, mixed(0.1, lq, lp)),
    "skew_backward_kl": lambda lp, lq: kl(lp, mixed(0.1, lp, lq)),
    "tvd": lambda lp, lq: 0.5 * (lp.exp() - lq.exp()).abs().sum(-1),
    "alpha_beta": lambda lp, lq: 2 * ((lp / 2).exp() - (lq / 2).exp()).square().sum(-1),
    "adaptive_kl": adaptive,
}


def softened(logits: Tensor, temperature: float) -> Tensor:
    """log softmax(z/τ)."""
    return torch.log_softmax(logits / temperature, -1)
