"""Compute (1 − λ)·NLL + λ·D of n rows, and its gradient with respect to their logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ka_fairseq.loss.cross_entropy import smoothing
from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import Divergence, Term
from ka_fairseq.loss.ensemble import GatheredDistribution, averaged_softmax


class TransferLoss(NamedTuple):
    """The loss and its parts, in nats: one value per row, shape (n,), or a sum over rows, a scalar.

    Attributes:
        loss: (1 − λ)·(label-smoothed) NLL + λ·D.
        nll_loss: −log p(target), without smoothing.
        transfer_loss: D, the divergence alone.
        entropy: H(p), the student's entropy.
        teacher_entropy: H(q), the teacher's entropy.
        n_correct: whether the student's best token is the target; 0 unless ``accuracy`` is set.
    """

    loss: Tensor
    nll_loss: Tensor
    transfer_loss: Tensor
    entropy: Tensor
    teacher_entropy: Tensor
    n_correct: Tensor


@dataclass(frozen=True)
class Objective:
    """The training objective (Sun & Cross 2020, Eq. 12).

    Attributes:
        divergence: D, see :mod:`ka_fairseq.loss.divergences`.
        transfer_weight: λ in [0, 1].
        label_smoothing: ε of the NLL part, as in fairseq's label_smoothed_cross_entropy.
        accuracy: whether to find each row's best token.
        temperature: τ. D is τ² times the divergence of p^(1/τ) and q^(1/τ), normalised (Hinton
            et al. 2015, arXiv 1503.02531). The NLL and the entropies ignore τ.
        nll_weight: the weight of the NLL; None is 1 − λ.
    """

    divergence: Divergence
    transfer_weight: float
    label_smoothing: float = 0.0
    accuracy: bool = False
    temperature: float = 1.0
    nll_weight: float | None = None

    @property
    def weight_of_nll(self) -> float:
        """Return the weight of the NLL: ``nll_weight``, or 1 − λ."""
        return 1 - self.transfer_weight if self.nll_weight is None else self.nll_weight


def row_losses(
    logits: Tensor,
    teacher: Sequence[Tensor] | GatheredDistribution,
    teacher_entropy: Tensor | None,
    targets: Tensor,
    objective: Objective,
    gradient: bool,
    threshold: Tensor | None = None,
) -> TransferLoss:
    """Return the loss of n rows and its parts; optionally write its gradient over the logits.

    Args:
        logits: the student's logits, shape (n, V), float32 or better.
        teacher: logits of each model of the ensemble, shape (n, V), or a distribution that
            computes log-probabilities of single tokens only.
        teacher_entropy: H(q), shape (n,); None computes it.
        targets: the reference tokens, shape (n,).
        objective: weights, divergence, smoothing and temperature.
        gradient: whether to write the gradient.
        threshold: a scalar; D is 0 at positions with a smaller NLL. None keeps D at all positions.
    """
    p = Distribution.of_logits(logits)
    q = teacher if isinstance(teacher, GatheredDistribution) else averaged_softmax(teacher)
    entropy = q.entropy if teacher_entropy is None else teacher_entropy
    temperature = objective.temperature
    softened = p.at_temperature(temperature)
    terms = list(objective.divergence.terms(softened, q.at_temperature(temperature)))
    smoothed, nll = label_smoothed_nll(p, targets, objective.label_smoothing)
    if threshold is not None:
        hard = nll.ge(threshold).to(nll)
        terms = [(share, term.weighted(hard)) for share, term in terms]
    divergence = sum(share * term.value for share, term in terms) * temperature**2
    weight, of_nll = objective.transfer_weight, objective.weight_of_nll
    # A weight of 0 leaves the NLL out: 0 · NLL is NaN where p(target) is 0.
    loss = of_nll * smoothed + weight * divergence if of_nll else weight * divergence
    correct = p.lprobs.argmax(-1).eq(targets) if objective.accuracy else torch.zeros_like(nll)
    losses = TransferLoss(loss, nll, divergence, p.entropy, entropy.to(nll), correct.to(nll))
    if gradient:
        write_gradient(logits, p, softened, terms, targets, objective)
    return losses


def label_smoothed_nll(p: Distribution, targets: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Return the smoothed and the plain −log p(target), each of shape (n,), in nats.

    The smoothed value is fairseq's ``label_smoothed_nll_loss``:
    (1 − ε − ε/(V−1))·NLL + ε/(V−1)·Σ_y −log p(y).
    """
    nll = -p.at(targets.unsqueeze(-1)).squeeze(-1)
    if not epsilon:
        return nll, nll
    at_target, each = smoothing(epsilon, p.lprobs.size(-1))
    return at_target * nll - each * p.lprobs.sum(-1), nll


def write_gradient(
    out: Tensor,
    p: Distribution,
    softened: Distribution,
    terms: list[tuple[float, Term]],
    targets: Tensor,
    objective: Objective,
) -> None:
    """Write the gradient of the losses with respect to the student's logits, (n, V), to ``out``.

    p_τ is p at temperature τ. Let s = ∂D/∂log p_τ, t the target, ε the smoothing, e = ε/(V−1), and
    w the NLL's weight. The gradient is

        w·[p(y) − (1 − ε − e)·1(y = t) − e] + λ·τ·[s(y) − p_τ(y)·Σ_v s(v)].
    """
    scale, of_nll = objective.transfer_weight * objective.temperature, objective.weight_of_nll
    slope_sum = sum(share * term.sign * term.slope_sum for share, term in terms)
    if softened is p:
        torch.mul(p.probs, (of_nll - scale * slope_sum).unsqueeze(-1), out=out)
    else:
        torch.mul(softened.probs, (-scale * slope_sum).unsqueeze(-1), out=out)
        out.add_(p.probs, alpha=of_nll)
    for share, term in terms:
        term.add_to(out, scale * share)
    if not of_nll:
        return
    at_target, each = smoothing(objective.label_smoothing, out.size(-1))
    if objective.label_smoothing:
        out.sub_(of_nll * each)
    targets = targets.unsqueeze(-1)
    out.scatter_add_(-1, targets, out.new_full(targets.shape, -of_nll * at_target))
