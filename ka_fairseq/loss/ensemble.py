"""The answer of a frozen teacher: its members' outputs, averaged as probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ka_fairseq.loss.distribution import LOG_ZERO, Distribution
from ka_fairseq.loss.projection import Output, Projection


@dataclass(frozen=True)
class TeacherOutput:
    """The output of one or several models at N positions.

    Attributes:
        members: each model's output for the same positions.
        entropy: Σ_y −q(y)·log q(y) of each position, shape (N,), in nats; None if not known yet.
    """

    members: Sequence[Output]
    entropy: Tensor | None = None

    def can_be_gathered(self, k: int) -> bool:
        """Return whether k tokens' log-probabilities can be computed alone, at lower cost.

        The normalizers must be known. The k rows of the projection, (k, d) a position, must not
        exceed the V logits that they replace. So a chunk stays within its memory.
        """
        return self.entropy is not None and all(
            isinstance(member, Projection)
            and member.log_normalizer is not None
            and k * member.weight.size(1) <= member.vocabulary
            for member in self.members
        )

    def prepare(self) -> TeacherOutput:
        """Return the output without its graph, ready for matrix products."""
        return TeacherOutput([member.prepare() for member in self.members], self.entropy)

    def logits(self, rows: slice) -> list[Tensor]:
        """Return each member's logits of some rows, shape (n, V)."""
        return [member.logits(rows) for member in self.members]

    def distribution(self, rows: slice) -> Distribution:
        """Return the distributions of some rows."""
        return averaged_softmax(self.logits(rows))


def averaged_softmax(logits: Sequence[Tensor]) -> Distribution:
    """Return the mean of the members' softmaxes, (n, V); a logsumexp computes its logarithm."""
    members = [Distribution.of_logits(of_member) for of_member in logits]
    if len(members) == 1:
        return members[0]
    return Distribution(_log_mean([member.lprobs for member in members]))


def _log_mean(lprobs: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(lprobs)).logsumexp(0) - math.log(len(lprobs))


class GatheredDistribution:
    """A teacher's distributions, computed for single tokens only.

    The hidden states h and their log-normalizer log Z are known. So log q(y) = w_y·h + b_y − log Z
    needs k rows of the projection for k tokens, not all V.
    """

    def __init__(self, teacher: TeacherOutput, rows: slice) -> None:
        """Take some rows of a teacher with known normalizers."""
        self._teacher = teacher
        self._rows = rows

    @property
    def entropy(self) -> Tensor:
        """Return the entropies, shape (n,), in nats."""
        return self._teacher.entropy[self._rows]

    def at_temperature(self, temperature: float) -> GatheredDistribution:
        """Return itself for τ = 1; the known normalizers hold for no other temperature.

        Raises:
            ValueError: the temperature is not 1.
        """
        if temperature != 1:
            raise ValueError("the known normalizers hold for temperature 1 only")
        return self

    def at(self, tokens: Tensor) -> Tensor:
        """Return the log-probabilities of some tokens of each row, shape (n, k)."""
        lprobs = [member.log_probs_at(self._rows, tokens) for member in self._teacher.members]
        return (lprobs[0] if len(lprobs) == 1 else _log_mean(lprobs)).clamp(min=LOG_ZERO)
