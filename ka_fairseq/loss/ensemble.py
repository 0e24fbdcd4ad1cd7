"""What a frozen teacher answers: its members' outputs, averaged as probabilities."""

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
    """N positions of one or several models.

    Attributes:
        members: each model's output for the same positions.
        entropy: Σ_y −q(y)·log q(y) of each position where it is known beforehand, shape (N,), nats.
    """

    members: Sequence[Output]
    entropy: Tensor | None = None

    def can_be_gathered(self, k: int) -> bool:
        """Whether k tokens' log-probabilities are had, and cheaper, without all the others'.

        Normalizers must be known. And their rows of the projection, (k, d) a position, must be no
        more than the V logits that they spare, so that chunks keep to their memory.
        """
        return self.entropy is not None and all(
            isinstance(member, Projection)
            and member.log_normalizer is not None
            and k * member.weight.size(1) <= member.vocabulary
            for member in self.members
        )

    def prepare(self) -> TeacherOutput:
        """The same outside of any graph, as matrix products take it."""
        return TeacherOutput([member.prepare() for member in self.members], self.entropy)

    def logits(self, rows: slice) -> list[Tensor]:
        """Each member's logits of some rows, shape (n, V)."""
        return [member.logits(rows) for member in self.members]

    def distribution(self, rows: slice) -> Distribution:
        """The distributions of some rows."""
        return averaged_softmax(self.logits(rows))


def averaged_softmax(logits: Sequence[Tensor]) -> Distribution:
    """The mean of the softmaxes of each member's logits, (n, V); its logarithm by logsumexp."""
    members = [Distribution.of_logits(of_member) for of_member in logits]
    if len(members) == 1:
        return members[0]
    return Distribution(_log_mean([member.lprobs for member in members]))


def _log_mean(lprobs: Sequence[Tensor]) -> Tensor:
    return torch.stack(tuple(lprobs)).logsumexp(0) - math.log(len(lprobs))


class GatheredDistribution:
    """A teacher's distributions of which only single tokens are asked for.

    With hidden states h and their log-normalizer log Z at hand, log q(y) = w_y·h + b_y − log Z
    needs the k rows of the projection that are asked for, not all V.
    """

    def __init__(self, teacher: TeacherOutput, rows: slice) -> None:
        """Take some rows of a teacher that has its normalizers."""
        self._teacher = teacher
        self._rows = rows

    @property
    def entropy(self) -> Tensor:
        """Shape (n,), in nats."""
        return self._teacher.entropy[self._rows]

    def at_temperature(self, temperature: float) -> GatheredDistribution:
        """Itself, for τ = 1; at any other the normalizers are others.

        Raises:
            ValueError: another temperature.
        """
        if temperature != 1:
            raise ValueError("normalizers that are known are those of temperature 1")
        return self

    def at(self, tokens: Tensor) -> Tensor:
        """Log-probabilities of some tokens of each row, shape (n, k)."""
        lprobs = [member.log_probs_at(self._rows, tokens) for member in self._teacher.members]
        return (lprobs[0] if len(lprobs) == 1 else _log_mean(lprobs)).clamp(min=LOG_ZERO)
