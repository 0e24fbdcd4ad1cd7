"""A model's output before the softmax: hidden states and a projection, or finished logits.

A plain projection is kept apart from its hidden states, so that the loss can compute the
(tokens × types) logits in chunks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ka_fairseq.loss.matmul import (
    add_product,
    factors,
    gradient_factors,
    product,
    scaled,
    tensor_cores,
)


@dataclass(frozen=True)
class Projection:
    """Logits as ``hidden @ weight.T + bias``.

    Attributes:
        hidden: shape (N, d).
        weight: shape (V, d).
        bias: shape (V,), or None.
        log_normalizer: log Σ_y exp(logit of y) of each position, shape (N,); None if not known
            yet.
        widened: whether a GPU may multiply hidden and weight in TF32, see
            :func:`.matmul.tensor_cores`.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    log_normalizer: Tensor | None = None
    widened: bool = False

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """Return the tensors that the logits are computed from."""
        return self.hidden, self.weight, self.bias

    @property
    def vocabulary(self) -> int:
        """Return V, the number of types."""
        return self.weight.size(0)

    @property
    def gradient_dtype(self) -> torch.dtype:
        """Return the precision that the gradient of float32 logits may have.

        bfloat16 factors allow a bfloat16 gradient. Other factors need float32: a float16 gradient
        would need a scale.
        """
        return torch.bfloat16 if self.weight.dtype == torch.bfloat16 else torch.float32

    def prepare(self, rounded: torch.dtype | None = None) -> Projection:
        """Return the output without its graph, as :mod:`ka_fairseq.loss.matmul` takes it.

        Args:
            rounded: a half precision to round to, see :func:`.matmul.factors`.
        """
        hidden, weight, widened = factors(self.hidden, self.weight, rounded)
        return Projection(hidden, weight, wide(self.bias), self.log_normalizer, widened)

    def logits(self, rows: slice) -> Tensor:
        """Return logits of some rows, (n, V), float32 or better; the caller may overwrite them."""
        with tensor_cores(self.widened):
            logits = product(self.hidden[rows], self.weight.T)
        return logits if self.bias is None else logits.add_(self.bias)

    def log_probs_at(self, rows: slice, tokens: Tensor) -> Tensor:
        """Return log-probabilities of some tokens of each row, (n, k) → (n, k)."""
        hidden = wide(self.hidden[rows])
        weight = wide(nn.functional.embedding(tokens, self.weight))
        logits = torch.bmm(weight, hidden.unsqueeze(-1)).squeeze(-1)
        if self.bias is not None:
            logits += self.bias.take(tokens)
        return logits - self.log_normalizer[rows].to(logits.dtype).unsqueeze(-1)

    def add_gradients(self, rows: slice, of_logits: Tensor, into: Sequence[Tensor | None]) -> None:
        """Propagate the gradient of some rows' logits to :attr:`inputs`.

        Args:
            rows: called from the first rows to the last; the first rows overwrite ``into``.
            of_logits: shape (n, V), in float32 or better, or in :attr:`gradient_dtype`.
            into: the gradient of each of :attr:`inputs`; None for an input without a gradient.
        """
        of_hidden, of_weight, of_bias = into
        keep = rows.start > 0
        if of_bias is not None:
            total = of_logits.sum(0, dtype=of_bias.dtype)
            of_bias.copy_(of_bias + total if keep else total)
        if of_hidden is None and of_weight is None:
            return
        made = gradient_factors(of_logits, self.hidden[rows])
        with tensor_cores(self.widened):
            if of_hidden is not None:
                of_hidden[rows] = scaled(product(made.of_logits, self.weight), made.unscale_rows)
            if of_weight is not None:
                add_product(of_weight, made.of_logits.T, made.hidden, made.unscale, keep=keep)


@dataclass(frozen=True)
class Logits:
    """Logits, or log-probabilities (which are logits too), shape (N, V)."""

    values: Tensor

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """Return the logits themselves."""
        return (self.values,)

    @property
    def vocabulary(self) -> int:
        """Return V, the number of types."""
        return self.values.size(-1)

    @property
    def gradient_dtype(self) -> torch.dtype:
        """Return the precision that the gradient of float32 logits may have."""
        return torch.float32

    def prepare(self, rounded: torch.dtype | None = None) -> Logits:
        """Return the logits without their graph, not widened, which would cost too much memory."""
        del rounded  # there is no product
        return Logits(self.values.detach())

    def logits(self, rows: slice) -> Tensor:
        """Return a copy of some rows, shape (n, V), in float32 or better."""
        return wide(self.values[rows]).clone()

    def add_gradients(self, rows: slice, of_logits: Tensor, into: Sequence[Tensor | None]) -> None:
        """Propagate the gradient of some rows' logits to :attr:`inputs`."""
        into[0][rows] = of_logits


Output = Projection | Logits


def wide(tensor: Tensor | None) -> Tensor | None:
    """Return a tensor in float32 or better, without its graph; None stays None."""
    if tensor is None:
        return None
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
