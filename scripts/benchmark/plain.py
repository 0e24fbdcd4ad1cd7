"""The reference: distillation as public NMT code implements it.

The reference computes full logits of both models, padding included. It takes their softmax and
log-softmax, multiplies and sums, and leaves the gradient to autograd.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from torch import Tensor

from ka_fairseq.loss.objective import Objective


def plain_loss(
    logits: Tensor, teacher_logits: Tensor, targets: Tensor, objective: Objective, padding: int
) -> Tensor:
    """Return (1 − λ)·NLL + λ·D, summed over the targets without padding.

    Args:
        logits: the student's, shape (batch, length, V).
        teacher_logits: the teacher's, shape (batch, length, V).
        targets: shape (batch, length).
        objective: λ, label smoothing and D; of the top-k forms only ``generalized``.
        padding: the padding token of targets.

    Raises:
        ValueError: another top-k form.
    """
    lprobs = F.log_softmax(logits, dim=-1, dtype=torch.float32)
    probs = F.softmax(logits, dim=-1, dtype=torch.float32)
    with torch.no_grad():
        teacher_lprobs = F.log_softmax(teacher_logits, dim=-1, dtype=torch.float32)
        teacher_probs = F.softmax(teacher_logits, dim=-1, dtype=torch.float32)
    nll, _ = label_smoothed_nll_loss(
        lprobs.view(-1, lprobs.size(-1)),
        targets.reshape(-1),
        objective.label_smoothing,
        ignore_index=padding,
    )
    divergence = objective.divergence
    if divergence.top_k and divergence.top_k_form != "generalized":
        raise ValueError(f"the plain reference has no top-k form {divergence.top_k_form!r}")
    per_position = torch.zeros_like(targets, dtype=torch.float32)
    learner, teacher = (probs, lprobs), (teacher_probs, teacher_lprobs)
    if divergence.forward:
        per_position = per_position + divergence.forward * _kl(teacher, learner, divergence.top_k)
    if divergence.backward:
        per_position = per_position + divergence.backward * _kl(learner, teacher, divergence.top_k)
    transfer = per_position.masked_fill(targets.eq(padding), 0.0).sum()
    return (1 - objective.transfer_weight) * nll + objective.transfer_weight * transfer


def _kl(a: tuple[Tensor, Tensor], b: tuple[Tensor, Tensor], top_k: int) -> Tensor:
    """Return KL(a‖b), or over a's k best Σ_S [a·log(a/b) − a + b].

    Args:
        a: probabilities and their logarithms.
        b: probabilities and their logarithms.
        top_k: k; 0 takes all types.
    """
    if not top_k:
        return (a[0] * (a[1] - b[1])).sum(-1)
    best = a[0].topk(top_k, dim=-1).indices
    (a_probs, a_lprobs), (b_probs, b_lprobs) = (
        tuple(tensor.gather(-1, best) for tensor in pair) for pair in (a, b)
    )
    return (a_probs * (a_lprobs - b_lprobs) - a_probs + b_probs).sum(-1)
