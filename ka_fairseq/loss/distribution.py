"""Next-token distributions of n rows over V types, as the divergences read them."""

from __future__ import annotations

import torch
from torch import Tensor

# A log-probability below this counts as this. It keeps the divergence from a distribution that
# gives probability 0 to a token finite, and 0·log 0 at 0; log-softmax of logits within ±4e4 never
# comes near it.
LOG_ZERO = -1e5

# How many types share a maximum when the best of a row are sought, see `best_tokens`.
GROUP = 128


class Distribution:
    """n distributions over the whole vocabulary; what is asked for is made once.

    Attributes:
        lprobs: log-probabilities, shape (n, V), float32 or better, never below :data:`LOG_ZERO`.
    """

    def __init__(self, lprobs: Tensor, probs: Tensor | None = None) -> None:
        """Take log-probabilities, and the probabilities where they are at hand."""
        wide = torch.promote_types(lprobs.dtype, torch.float32)
        self.lprobs = lprobs.to(wide).clamp(min=LOG_ZERO)
        # Not functools.cached_property: before Python 3.12 it takes a lock, at which torch.compile
        # stops and leaves all that follows as it is.
        self._probs = probs
        self._entropy: Tensor | None = None

    @classmethod
    def of_logits(cls, logits: Tensor) -> Distribution:
        """The softmax of logits, shape (n, V), float32 or better, and its logarithm.

        On a GPU, where passes over memory are what takes time, a fused log-softmax and one
        exponential. On a CPU, where exponentials are, one exponential a logit:
        log p(y) = (z(y) − max z) + log max p, and max p is at least 1/V, so its logarithm has all
        digits where that of p(y) would be −∞.
        """
        if logits.device.type != "cpu":
            return cls(torch.log_softmax(logits, dim=-1))
        probs = torch.softmax(logits, dim=-1)
        lprobs = logits - logits.amax(-1, keepdim=True)
        return cls(lprobs.add_(probs.amax(-1, keepdim=True).log()), probs)

    @property
    def probs(self) -> Tensor:
        """Probabilities, shape (n, V)."""
        if self._probs is None:
            self._probs = self.lprobs.exp()
        return self._probs

    @property
    def entropy(self) -> Tensor:
        """H = −Σ_y p(y)·log p(y), shape (n,), in nats."""
        if self._entropy is None:
            self._entropy = -(self.probs * self.lprobs).sum(-1)
        return self._entropy

    def at(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of some tokens of each row, shape (n, k)."""
        return self.lprobs.gather(-1, tokens)

    def best(self, k: int) -> Tensor:
        """The k most probable tokens of each row, shape (n, k), in no order."""
        return best_tokens(self.lprobs, k)

    def at_temperature(self, temperature: float) -> Distribution:
        """p(y)^(1/τ), normalised: flatter for τ > 1. Itself for τ = 1."""
        return self if temperature == 1 else Distribution.of_logits(self.lprobs / temperature)

    def log_rest(self, tokens: Tensor) -> Tensor:
        """The log of the probability outside ``tokens``, shape (n, 1).

        A logsumexp over the rest, not log(1 − Σ): that difference has no correct digit once the
        tokens hold nearly all of the mass, which is the usual case for the k best.
        """
        return self.lprobs.scatter(-1, tokens, -torch.inf).logsumexp(-1, keepdim=True)


def entropy(lprobs: Tensor) -> Tensor:
    """H = −Σ_y p(y)·log p(y), shape (n, V) → (n,), in nats."""
    return Distribution(lprobs).entropy


def best_tokens(values: Tensor, k: int) -> Tensor:
    """The k largest of each row, shape (n, V) → indices (n, k), in no order.

    On a CPU, ``topk`` over a wide row takes several times as long as its softmax. The k best lie in
    the k groups of types with the largest maxima, so only those are searched, and the few types
    that fill no group.
    """
    n, vocabulary = values.shape
    groups = vocabulary // GROUP
    if values.device.type != "cpu" or groups < 4 * k:
        return values.topk(k, dim=-1, sorted=False).indices
    grouped = values[:, : groups * GROUP].view(n, groups, GROUP)
    chosen = grouped.amax(-1).topk(k, dim=-1, sorted=False).indices
    inside = torch.arange(GROUP, device=values.device)
    candidates = (chosen.unsqueeze(-1) * GROUP + inside).view(n, k * GROUP)
    left_over = torch.arange(groups * GROUP, vocabulary, device=values.device)
    candidates = torch.cat([candidates, left_over.expand(n, -1)], dim=-1)
    best = values.gather(-1, candidates).topk(k, dim=-1, sorted=False).indices
    return candidates.gather(-1, best)


def best_token(values: Tensor) -> Tensor:
    """The largest of each row, shape (n, V) → its index, (n,)."""
    if values.device.type != "cpu":
        return values.argmax(-1)
    return best_tokens(values, 1).squeeze(-1)
