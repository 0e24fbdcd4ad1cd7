"""fairseq's label-smoothed cross-entropy of n rows, and its gradient with respect to logits."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ka_fairseq.loss.distribution import best_token


class CrossEntropy(NamedTuple):
    """The loss and its parts, in nats: one value per row, shape (n,), or a sum over rows, a scalar.

    Attributes:
        loss: the label-smoothed NLL.
        nll_loss: −log p(target), without smoothing.
        n_correct: whether the best token is the target; 0 unless asked for.
    """

    loss: Tensor
    nll_loss: Tensor
    n_correct: Tensor


def smoothing(epsilon: float, vocabulary: int) -> tuple[float, float]:
    """Return the two weights of the smoothed target distribution.

    As in fairseq, the V − 1 tokens other than the target share ε. Every token, including the
    target, gets e = ε/(V−1). The target gets 1 − ε − e in addition.

    Returns:
        1 − ε − e, and e.
    """
    each = epsilon / (vocabulary - 1)
    return 1.0 - epsilon - each, each


def row_cross_entropies(
    logits: Tensor, targets: Tensor, epsilon: float, gradient: bool, accuracy: bool = False
) -> CrossEntropy:
    """Return the loss of n rows and its parts; optionally write its gradient over the logits.

    The loss is fairseq's ``label_smoothed_nll_loss``: (1 − ε − e)·NLL + e·Σ_y −log p(y), with
    e = ε/(V−1). Since log p(y) = z(y) − log Σ_v exp z(v), the gradient is
    p(y) − (1 − ε − e)·1(y = target) − e.

    This takes one exponential per logit, because log Σ_v exp z(v) = max z − log max p.

    Args:
        logits: z, shape (n, V), float32 or better.
        targets: the reference tokens, shape (n,).
        epsilon: ε, the label smoothing.
        gradient: whether to write the gradient.
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
