"""Next-token distributions of n rows over V types, the input of the divergences."""

from __future__ import annotations

import torch
from torch import Tensor

# Log-probabilities below this value are raised to this value. So a divergence stays finite if a
# distribution gives a token the probability 0, and 0·log 0 is 0. A log-softmax of logits within
# ±4e4 never comes near this value.
LOG_ZERO = -1e5

# Number of types in a group with one maximum, see `best_tokens`.
GROUP = 128


class Distribution:
    """n distributions over the whole vocabulary; derived values are computed once, on demand.

    Attributes:
        lprobs: log-probabilities, shape (n, V), float32 or better, never below :data:`LOG_ZERO`.
    """

    def __init__(self, lprobs: Tensor, probs: Tensor | None = None) -> None:
        """Take log-probabilities, and the probabilities if they are known."""
        wide = torch.promote_types(lprobs.dtype, torch.float32)
        self.lprobs = lprobs.to(wide).clamp(min=LOG_ZERO)
        # Not functools.cached_property, which takes a lock before Python 3.12. At a lock,
        # torch.compile stops and leaves the rest uncompiled.
        self._probs = probs
        self._entropy: Tensor | None = None

    @classmethod
    def of_logits(cls, logits: Tensor) -> Distribution:
        """Return the softmax of logits, shape (n, V), float32 or better, and its logarithm.

        On a GPU, passes over memory take the time. So a GPU computes a fused log-softmax and one
        exponential. On a CPU, exponentials take the time. So a CPU computes one exponential per
        logit, and log p(y) = (z(y) − max z) + log max p. max p is at least 1/V, so log max p has
        all digits, even if p(y) underflows to 0.
        """
        if logits.device.type != "cpu":
            return cls(torch.log_softmax(logits, dim=-1))
        probs = torch.softmax(logits, dim=-1)
        lprobs = logits - logits.amax(-1, keepdim=True)
        return cls(lprobs.add_(probs.amax(-1, keepdim=True).log()), probs)

    @property
    def probs(self) -> Tensor:
        """Return the probabilities, shape (n, V)."""
        if self._probs is None:
            self._probs = self.lprobs.exp()
        return self._probs

    @property
    def entropy(self) -> Tensor:
        """Return H = −Σ_y p(y)·log p(y), shape (n,), in nats."""
        if self._entropy is None:
            self._entropy = -(self.probs * self.lprobs).sum(-1)
        return self._entropy

    def at(self, tokens: Tensor) -> Tensor:
        """Return the log-probabilities of some tokens of each row, shape (n, k)."""
        return self.lprobs.gather(-1, tokens)

    def best(self, k: int) -> Tensor:
        """Return the k most probable tokens of each row, shape (n, k), unordered."""
        return best_tokens(self.lprobs, k)

    def at_temperature(self, temperature: float) -> Distribution:
        """Return p(y)^(1/τ), normalised, which is flatter for τ > 1; itself for τ = 1."""
        return self if temperature == 1 else Distribution.of_logits(self.lprobs / temperature)

    def log_rest(self, tokens: Tensor) -> Tensor:
        """Return the log of the probability outside ``tokens``, shape (n, 1).

        The value is a logsumexp over the other tokens. log(1 − Σ) would have no correct digit when
        the tokens hold nearly all of the mass, as the k best tokens usually do.
        """
        return self.lprobs.scatter(-1, tokens, -torch.inf).logsumexp(-1, keepdim=True)


def entropy(lprobs: Tensor) -> Tensor:
    """Return H = −Σ_y p(y)·log p(y), shape (n, V) → (n,), in nats."""
    return Distribution(lprobs).entropy


def best_tokens(values: Tensor, k: int) -> Tensor:
    """Return the indices of the k largest values of each row, (n, V) → (n, k), unordered.

    On a CPU, ``topk`` over a wide row takes several times as long as its softmax. The k best lie in
    the k groups of types with the largest maxima. So only these groups are searched, and the few
    types outside any group.
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
    """Return the index of the largest value of each row, (n, V) → (n,)."""
    if values.device.type != "cpu":
        return values.argmax(-1)
    return best_tokens(values, 1).squeeze(-1)
