"""fairseq's label-smoothed cross-entropy of n rows, and its gradient by their logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ka_fairseq.loss.distribution import best_token


class CrossEntropy(NamedTuple):
    """A loss and its parts, in nats: of each of n rows, shape (n,), or summed, scalars.

    Attributes:
        loss: the label-smoothed NLL.
        nll_loss: −log p(target), without smoothing.
        n_correct: whether the best token is the target; 0 unless asked for.
    """

    loss: Tensor
    nll_loss: Tensor
    n_correct: Tensor


def smoothing(epsilon: float, vocabulary: int) -> tuple[float, float]:
    """What the smoothed target distribution gives to the target beside ``each``, and to each.

    As fairseq has it, ε is shared by the V − 1 tokens that are not the target: e = ε/(V−1) each,
    and 1 − ε − e for the target beside its own e.
    """
    each = epsilon / (vocabulary - 1)
    return 1.0 - epsilon - each, each


def row_cross_entropies(
    logits: Tensor, targets: Tensor, epsilon: float, gradient: bool, accuracy: bool = False
) -> CrossEntropy:
    """The loss of n rows and its parts; with ``gradient``, its gradient is written over the logits.

    As fairseq's ``label_smoothed_nll_loss``: (1 − ε − e)·NLL + e·Σ_y −log p(y), e = ε/(V−1). With
    log p(y) = z(y) − log Σ_v exp z(v), the gradient is p(y) − (1 − ε − e)·1(y = target) − e.

    One exponential a logit: where max z and max p are known, log Σ_v exp z(v) = max z − log max p.

    Args:
        logits: z, shape (n, V), float32 or better.
        targets: the reference tokens, shape (n,).
        epsilon: ε, the label smoothing.
        gradient: whether it is wanted.
        accuracy: whether to find each row's best token.
    """
    vocabulary = logits.size(-1)
    at_target, each = smoothing(epsilon, vocabulary)
    targets = targets.unsqueeze(-1)
    probs = torch.softmax(logits, dim=-1)
    log_normalizer = logits.amax(-1) - probs.amax(-1).log()
    nll = log_normalizer - logits.gather(-1, targets).squeeze(-1)
    loss = nll
    if epsilon:
        loss = at_target * nll + each * (vocabulary * log_normalizer - logits.sum(-1))
    correct = torch.zeros_like(nll)
    if accuracy:
        correct = best_token(logits).eq(targets.squeeze(-1)).to(nll)
    if gradient:
        torch.sub(probs, each, out=logits)
        logits.scatter_add_(-1, targets, logits.new_full(targets.shape, -at_target))
    return CrossEntropy(loss, nll, correct)
