"""Liger-Kernel's fused linear distillation loss, where it is installed."""

from __future__ import annotations

import importlib.util

from torch import Tensor

from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection

# Which of its β is which criterion; its β between them is the Jensen–Shannon divergence, which no
# criterion here is.
BETA = {"forward_kl": 0.0, "backward_kl": 1.0}


def has_liger() -> bool:
    """Whether liger-kernel is installed."""
    return importlib.util.find_spec("liger_kernel") is not None


def liger_loss(
    learner: Projection, teacher: Projection, targets: Tensor, objective: Objective
) -> Tensor:
    """(1 − λ)·NLL + λ·KL, a mean over N positions, without label smoothing (it has none).

    Args:
        learner: N positions.
        teacher: likewise.
        targets: shape (N,).
        objective: λ, and which order of the KL.
    """
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    weight = objective.transfer_weight
    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=1 - weight,
        weight_soft_loss=weight,
        beta=BETA["backward_kl" if objective.divergence.backward else "forward_kl"],
        compiled=targets.is_cuda,
    )
    return loss(learner.hidden, learner.weight, teacher.hidden, teacher.weight, targets)
