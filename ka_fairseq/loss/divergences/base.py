"""What a divergence is to the loss: terms with a value and a derivative for each of n rows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import options


class Term(NamedTuple):
    """The divergence of n rows, or a part of it, and its derivatives by the learner's log p.

    ∂D/∂log p(y) = sign·slope(y) + along·p(y), where log p(y) is a free variable. A softmax before
    it removes whatever is along p, so that with logits z

        ∂D/∂z(y) = sign·slope(y) − p(y)·Σ_v sign·slope(v).

    Attributes:
        value: D, shape (n,), in nats.
        slope: shape (n, V), or (n, k) for the k tokens of ``support``; 0 for all others.
        slope_sum: Σ_v slope(v), shape (n,).
        support: tokens, shape (n, k), or None for the whole vocabulary.
        sign: 1 or −1.
        along: a number, or shape (n, 1).
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
        """The same times a weight for each row, shape (n,)."""
        column = weights.unsqueeze(-1)
        return self._replace(
            value=self.value * weights,
            slope=self.slope * column,
            slope_sum=self.slope_sum * weights,
            along=self.along * column,
        )


def not_negative(values: Tensor) -> Tensor:
    """Lift values that rounding took below zero."""
    return values.clamp(min=0)


class Divergence(ABC):
    """D between a learner's distribution p and a teacher's q, a row at a time.

    One with options is a frozen dataclass, and each of these an
    :func:`~ka_fairseq.loss.divergences.options.option`.

    Attributes:
        top_k: sums over this many tokens only; 0 is the whole vocabulary.
        compiles: whether torch.compile can take what it does.
        more_tensors: how many tensors of shape (n, V) more than a KL it holds at a time.
    """

    top_k: int = 0
    compiles: bool = True
    more_tensors: int = 0

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: one is outside of its range.
        """
        options.check(self)

    @abstractmethod
    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """What D is the sum of: (share, value and derivatives)."""

    def restricted(self, top_k: int, top_k_form: str) -> Divergence:
        """The same over the k best tokens; itself for k = 0.

        Raises:
            ValueError: there is no such thing.
        """
        if top_k:
            raise ValueError("it sums over the whole vocabulary: leave the top-k options out")
        return self

    def configured(self, **values: float) -> Divergence:
        """The same with other values of some of its options.

        Raises:
            ValueError: it does not take an option, or not this value.
        """
        known = options.options_of(self)
        for option in values:
            if option not in known:
                takes = ", ".join(known) or "none"
                raise ValueError(f"{option} is no option of it; it takes {takes}")
        return replace(self, **{known[option][1]: values[option] for option in values})

    def with_backward_share(self, share: float) -> Divergence:
        """The same mixture of both KLs with another share of the backward one, from 0 to 1.

        Raises:
            ValueError: it is no mixture of both.
        """
        raise ValueError("it is no mixture of both KLs, as jsd_mixture is")

    def needs_whole_teacher(self, vocabulary: int) -> bool:
        """Whether more is asked of q than its log-probabilities at the learner's k best."""
        return True
