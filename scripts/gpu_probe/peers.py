"""The fused losses of other packages, if installed: Liger-Kernel's and TRL's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from torch import Tensor

from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection

# The β of both packages for each criterion. For js the packages' loss is multiplied by a factor,
# which is 1 for β = ½.
BETA = {"forward_kl": 0.0, "backward_kl": 1.0, "js": 0.5}

# Each peer's package, and the package's file with the loss: older releases of TRL lack it.
PACKAGES = {
    "liger": ("liger-kernel", "liger_kernel", "chunked_loss/jsd_loss.py"),
    "trl": ("trl", "trl", "kernels/chunked_divergence.py"),
}


def installed(name: str) -> bool:
    """Return whether a peer is installed, without importing it.

    Args:
        name: a key of :data:`PACKAGES`.
    """
    _, module, file = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    return spec is not None and any(
        (Path(folder) / file).is_file() for folder in spec.submodule_search_locations or ()
    )


def liger_loss(
    learner: Projection, teacher: Projection, targets: Tensor, objective: Objective
) -> Tensor:
    """Return (1 − λ)·NLL + λ·KL, a mean over N positions, without label smoothing.

    Args:
        learner: the student's N positions.
        teacher: the teacher's N positions.
        targets: shape (N,).
        objective: λ, and the direction of the KL, or β.
    """
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    weight = objective.transfer_weight
    loss = LigerFusedLinearJSDLoss(
        weight_hard_loss=1 - weight,
        weight_soft_loss=weight,
        beta=_beta(objective),
        compiled=targets.is_cuda,
    )
    return loss(learner.hidden, learner.weight, teacher.hidden, teacher.weight, targets)


def trl_loss(
    learner: Projection, teacher: Projection, targets: Tensor, objective: Objective
) -> Tensor:
    """Return the KL, summed over N positions. The sum has no NLL, for any λ.

    Args:
        learner: the student's N positions.
        teacher: the teacher's N positions.
        targets: not used.
        objective: the direction of the KL, or β.
    """
    from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

    divergence, _ = ChunkedDivergenceFunction.apply(
        *learner.inputs, *teacher.inputs, _beta(objective)
    )
    return divergence.sum()


def _beta(objective: Objective) -> float:
    if isinstance(objective.divergence, JensenShannon):
        return objective.divergence.beta
    return BETA["backward_kl" if objective.divergence.backward else "forward_kl"]
