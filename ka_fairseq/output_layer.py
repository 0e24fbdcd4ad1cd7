"""What a model puts before the softmax: hidden states and a projection, or finished logits.

A plain projection is kept apart from its hidden states, so that the loss can make the
(tokens × types) logits in chunks. Any other output layer (adaptive softmax, factored or
architecture-specific ones) gives logits from the model's own forward pass.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fairseq.models.transformer import TransformerDecoderBase, TransformerModelBase
from fairseq.modules import AdaptiveSoftmax
from torch import Tensor, nn

from ka_fairseq.matmul import add_product, factor, gradient_factor, product, scaled
from ka_fairseq.positions import select

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Projection:
    """Logits as ``hidden @ weight.T + bias``.

    Attributes:
        hidden: shape (N, d).
        weight: shape (V, d).
        bias: shape (V,), or None.
        log_normalizer: log Σ_y exp(logit of y) of each position where it is known beforehand,
            shape (N,).
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None
    log_normalizer: Tensor | None = None

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """The tensors that logits are made from."""
        return self.hidden, self.weight, self.bias

    @property
    def vocabulary(self) -> int:
        """V, the number of types."""
        return self.weight.size(0)

    def prepare(self) -> Projection:
        """The same outside of any graph, as :mod:`ka_fairseq.matmul` takes it."""
        # Of two precisions, as autocast leaves them, neither is a factor for the other.
        as_factor = factor if self.hidden.dtype == self.weight.dtype else wide
        return Projection(
            as_factor(self.hidden), as_factor(self.weight), wide(self.bias), self.log_normalizer
        )

    def logits(self, rows: slice) -> Tensor:
        """Logits of some rows, shape (n, V), in float32 or better, the caller's to write over."""
        logits = product(self.hidden[rows], self.weight.T)
        return logits if self.bias is None else logits.add_(self.bias)

    def log_probs_at(self, rows: slice, tokens: Tensor) -> Tensor:
        """Log-probabilities of some tokens of each row, (n, k) → (n, k), by the normalizer."""
        hidden = wide(self.hidden[rows])
        weight = wide(nn.functional.embedding(tokens, self.weight))
        logits = torch.bmm(weight, hidden.unsqueeze(-1)).squeeze(-1)
        if self.bias is not None:
            logits += self.bias.take(tokens)
        return logits - self.log_normalizer[rows].to(logits.dtype).unsqueeze(-1)

    def add_gradients(self, rows: slice, of_logits: Tensor, into: Sequence[Tensor | None]) -> None:
        """Carry the gradient of some rows' logits on to :attr:`inputs`.

        Args:
            rows: from first to last; the first rows find nothing in ``into`` that counts.
            of_logits: shape (n, V).
            into: for each of :attr:`inputs` its gradient, or None where none is wanted.
        """
        of_hidden, of_weight, of_bias = into
        keep = rows.start > 0
        if of_bias is not None:
            of_bias.copy_(of_bias + of_logits.sum(0) if keep else of_logits.sum(0))
        if of_hidden is None and of_weight is None:
            return
        of_logits, unscale = gradient_factor(of_logits, self.weight.dtype)
        if of_hidden is not None:
            of_hidden[rows] = scaled(product(of_logits, self.weight), unscale)
        if of_weight is not None:
            add_product(of_weight, of_logits.T, self.hidden[rows], unscale, keep=keep)


@dataclass(frozen=True)
class Logits:
    """Logits, or log-probabilities (which are logits too), shape (N, V)."""

    values: Tensor

    @property
    def inputs(self) -> tuple[Tensor | None, ...]:
        """The tensors that logits are made from: themselves."""
        return (self.values,)

    @property
    def vocabulary(self) -> int:
        """V, the number of types."""
        return self.values.size(-1)

    def prepare(self) -> Logits:
        """Itself, outside of any graph: all of it widened would be the memory that chunks save."""
        return Logits(self.values.detach())

    def logits(self, rows: slice) -> Tensor:
        """A copy of some rows, shape (n, V), in float32 or better."""
        return wide(self.values[rows]).clone()

    def add_gradients(self, rows: slice, of_logits: Tensor, into: Sequence[Tensor | None]) -> None:
        """Carry the gradient of some rows' logits on to :attr:`inputs`."""
        into[0][rows] = of_logits


Output = Projection | Logits


def run(model: nn.Module, net_input: Mapping[str, Any], rows: Tensor) -> Output:
    """Run a fairseq encoder–decoder up to what precedes its softmax.

    The model is called as a whole, so a DistributedDataParallel wrapper around it sees the call.

    Args:
        model: the model, wrapped or not.
        net_input: a fairseq sample's ``net_input``; not changed.
        rows: the N target positions to keep, from :func:`.positions.target_rows`. Dropping padding
            here means that nothing behind this call ever meets it.

    Returns:
        The output of the N positions, in their order.
    """
    bare = unwrap(model)
    # DistributedDataParallel takes what its forward pass did not use for unused, and stops when
    # the projection gets a gradient all the same; it looks only with --find-unused-parameters.
    looks_for_unused = getattr(model, "find_unused_parameters", False)
    if has_plain_projection(bare) and not looks_for_unused:
        features, _ = model(**net_input, features_only=True)
        layer = bare.decoder.output_projection
        return Projection(select(features, rows), layer.weight, layer.bias)
    _tell_of_whole_logits(type(bare).__name__, looks_for_unused)
    net_output = model(**net_input)
    adaptive = getattr(bare.decoder, "adaptive_softmax", None)
    if adaptive is not None:  # then what the model puts out are features
        return Logits(adaptive_log_probs(adaptive, select(net_output[0], rows)))
    # Only the model knows how to normalise what it put out (a copy mechanism, say).
    return Logits(select(bare.get_normalized_probs(net_output, log_probs=True), rows))


@functools.cache
def _tell_of_whole_logits(model: str, looks_for_unused: bool) -> None:
    """Once for each kind of model: its steps take more memory than the README promises."""
    reason = "--find-unused-parameters" if looks_for_unused else "its output layer"
    logger.warning(
        f"{model}: because of {reason}, the log-probabilities of a whole batch, (tokens × types), "
        f"are held at once, not in chunks; if memory runs out, lower --max-tokens"
    )


def has_plain_projection(model: nn.Module) -> bool:
    """Whether the logits are an ``nn.Linear`` of the decoder's features and nothing more."""
    decoder = model.decoder
    return (
        isinstance(model, TransformerModelBase)
        and isinstance(decoder, TransformerDecoderBase)
        and "features_only" in inspect.signature(model.forward).parameters
        and all(
            getattr(type(decoder), method) is getattr(TransformerDecoderBase, method)
            for method in ("forward", "output_layer", "get_normalized_probs")
        )
        and type(model).get_normalized_probs is TransformerModelBase.get_normalized_probs
        and decoder.adaptive_softmax is None
        and type(decoder.output_projection) is nn.Linear
    )


def adaptive_log_probs(softmax: AdaptiveSoftmax, features: Tensor) -> Tensor:
    """log p over the whole vocabulary by an adaptive softmax, with a gradient.

    log p(y) = log head(y) for the most frequent types, and log head(cluster of y) +
    log tail(y | its cluster) for the others (Grave et al. 2017, arXiv 1609.04309).
    fairseq's own ``get_log_prob`` works in place and cannot be differentiated.

    Args:
        softmax: the decoder's output layer.
        features: shape (N, d).

    Returns:
        Shape (N, V), in float32 or better.
    """
    features = softmax.dropout_module(features)

    def normalise(logits: Tensor) -> Tensor:
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    head = normalise(softmax.head(features))
    frequent, clusters = head.split([softmax.cutoff[0], len(softmax.tail)], dim=-1)
    tails = [
        normalise(tail(features)) + prior.unsqueeze(-1)
        for tail, prior in zip(softmax.tail, clusters.unbind(-1), strict=True)
    ]
    return torch.cat([frequent, *tails], dim=-1)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside fairseq's and torch's distributed wrappers."""
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model


def wide(tensor: Tensor | None) -> Tensor | None:
    """A tensor in float32 or better, outside of any graph."""
    if tensor is None:
        return None
    return tensor.detach().to(torch.promote_types(tensor.dtype, torch.float32))
