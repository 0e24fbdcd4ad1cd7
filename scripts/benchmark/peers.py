"""The fused losses of other packages, where these are installed: Liger-Kernel's and TRL's."""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path

from torch import Tensor

from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection

# Which of their β is which criterion, in both packages. Between the ends js is theirs times a
# factor, which is 1 for β = ½.
BETA = {"forward_kl": 0.0, "backward_kl": 1.0, "js": 0.5}

# Each variant's package, and the file in it that has the loss: older releases lack TRL's.
PACKAGES = {
    "liger": ("liger-kernel", "liger_kernel", "chunked_loss/jsd_loss.py"),
    "trl": ("trl", "trl", "kernels/chunked_divergence.py"),
}


def installed(name: str) -> bool:
    """Whether a peer is there; nothing of it is imported.

    Args:
        name: a key of :data:`PACKAGES`.
    """
    _, module, file = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    return spec is not None and any(
        (Path(folder) / file).is_file() for folder in spec.submodule_search_locations or ()
    )


def version(name: str) -> str:
    """A peer's package and its version."""
    package = PACKAGES[name][0]
    return f"{package} {metadata.version(package)}"


def liger_loss(
    learner: Projection, teacher: Projection, targets: Tensor, objective: Objective
) -> Tensor:
    """(1 − λ)·NLL + λ·KL, a mean over N positions, without label smoothing (it has none).

    Args:
        learner: N positions.
        teacher: likewise.
        targets: shape (N,).
        objective: λ, and which order of the KL, or which β.
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
    """The KL alone, summed over N positions: there is no NLL in it, whatever λ.

    Args:
        learner: N positions.
        teacher: likewise.
        targets: not read.
        objective: which order of the KL, or which β.
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
