"""The interface of divergences: terms with a value and a derivative for each of n rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import options


class Term(NamedTuple):
    """The divergence of n rows, or a part of it, and its derivatives with respect to log p.

    ∂D/∂log p(y) = sign·slope(y) + along·p(y), where log p(y) is a free variable. The gradient of a
    softmax removes the part along p. With logits z,

        ∂D/∂z(y) = sign·slope(y) − p(y)·Σ_v sign·slope(v).

    Attributes:
        value: D, shape (n,), in nats.
        slope: shape (n, V), or (n, k) for the k tokens of ``support``; 0 for all others.
        slope_sum: Σ_v slope(v), shape (n,).
        support: tokens, shape (n, k); None is the whole vocabulary.
        sign: 1 or −1.
        along: a number, or a tensor of shape (n, 1).
    """

    value: Tensor
    slope: Tensor
    slope_sum: Tensor
    support: Tensor | None = None
    sign: int = 1
    along: Tensor | float = 0.0

    def add_to(self, gradient: Tensor, scale: float) -> None:
        """Add scale·sign·slope to a gradient of shape (n, V), in place."""
        if self.support is None:
            gradient.add_(self.slope, alpha=scale * self.sign)
        else:
            gradient.scatter_add_(-1, self.support, self.slope * (scale * self.sign))

    def weighted(self, weights: Tensor) -> Term:
        """Return the term multiplied by a weight for each row, shape (n,)."""
        column = weights.unsqueeze(-1)
        return self._replace(
            value=self.value * weights,
            slope=self.slope * column,
            slope_sum=self.slope_sum * weights,
            along=self.along * column,
        )


def not_negative(values: Tensor) -> Tensor:
    """Replace negative values, which come from rounding, by zero."""
    return values.clamp(min=0)


class Divergence(ABC):
    """D between a student's distribution p and a teacher's distribution q, for each row.

    A divergence with options is a frozen dataclass. Each option is a field made by
    :func:`~ka_fairseq.loss.divergences.options.option`.

    Attributes:
        top_k: number of tokens in the sum; 0 is the whole vocabulary.
        compiles: whether torch.compile can compile the divergence.
        more_tensors: number of tensors of shape (n, V) held at a time, beyond those of a KL.
    """

    top_k: int = 0
    compiles: bool = True
    more_tensors: int = 0

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: an option is out of its range.
        """
        options.check(self)

    @abstractmethod
    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield the terms of D with their shares in the sum."""

    def restricted(self, top_k: int, top_k_form: str) -> Divergence:
        """Return the divergence over the k best tokens; itself for k = 0.

        Raises:
            ValueError: the divergence cannot be restricted.
        """
        if top_k:
            raise ValueError(
                "the divergence sums over the whole vocabulary: leave out the top-k options"
            )
        return self

    def configured(self, **values: float) -> Divergence:
        """Return the divergence with other values of some options.

        Raises:
            ValueError: an option is unknown, or a value is out of range.
        """
        known = options.options_of(self)
        for option in values:
            if option not in known:
                takes = ", ".join(known) or "none"
                raise ValueError(f"unknown option {option}; this divergence takes {takes}")
        return replace(self, **{known[option][1]: values[option] for option in values})

    def with_backward_share(self, share: float) -> Divergence:
        """Return the mixture of both KLs with another share of the backward KL, from 0 to 1.

        Raises:
            ValueError: the divergence is not a mixture of both KLs.
        """
        raise ValueError("the divergence must be a mixture of both KLs, such as jsd_mixture")

    def needs_whole_teacher(self, vocabulary: int) -> bool:
        """Return whether D needs more of q than log-probabilities at the student's k best."""
        return True
