"""Divergences that are defined by their value alone; autograd computes the gradient."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences.base import Divergence, Term

Value = Callable[[Tensor, Tensor], Tensor]


class ByAutograd(Divergence):
    """A divergence that is defined by its value.

    Autograd runs inside each block of rows. So chunks and the bound on memory are those of closed
    forms. Autograd takes more time, and about twice a block's memory.
    """

    compiles = False
    more_tensors = 8

    @abstractmethod
    def value(self, learner_lprobs: Tensor, teacher_lprobs: Tensor) -> Tensor:
        """Return D, shape (n,), in nats, from log p and log q, each of shape (n, V)."""

    def terms(self, p: Distribution, q: Distribution) -> Iterator[tuple[float, Term]]:
        """Yield the value and its derivative with respect to log p, as a single term."""
        with torch.enable_grad():
            lprobs = p.lprobs.detach().requires_grad_()
            value = self.value(lprobs, q.lprobs.detach())
            (slope,) = torch.autograd.grad(value.sum(), lprobs)
        yield 1.0, Term(value.detach(), slope, slope.sum(-1))

    def check(self) -> None:
        """Try the value on two rows of three types.

        Raises:
            ValueError: the value is not one number per row, or does not depend on log p.
        """
        lprobs = torch.tensor([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]).log().requires_grad_()
        with torch.enable_grad():
            value = self.value(lprobs, lprobs.detach().flip(0))
        if not torch.is_tensor(value) or value.shape != (2,):
            shape = tuple(value.shape) if torch.is_tensor(value) else type(value).__name__
            raise ValueError(
                f"its value must be a tensor of shape (n,), one number per row, for "
                f"log-probabilities of shape (n, V); for n = 2 and V = 3 it was {shape}"
            )
        if not value.requires_grad:
            raise ValueError("its value does not depend on the student's log-probabilities")


@dataclass(frozen=True)
class OfFunction(ByAutograd):
    """A divergence that is defined by a function of log-probabilities.

    Attributes:
        function: (log p, log q) → D, see :meth:`ByAutograd.value`.
    """

    function: Value

    def value(self, learner_lprobs: Tensor, teacher_lprobs: Tensor) -> Tensor:
        """Return the value of the function."""
        return self.function(learner_lprobs, teacher_lprobs)
