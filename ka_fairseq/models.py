"""Run a fairseq model up to the input of its softmax: a projection, or complete logits.

A plain linear output layer gives a projection. Any other output layer (adaptive softmax, factored
or architecture-specific layers) gives logits from the model's own forward pass.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from fairseq.models import BaseFairseqModel
from fairseq.models.transformer import TransformerDecoderBase, TransformerModelBase
from fairseq.models.transformer_lm import TransformerLanguageModel
from fairseq.modules import AdaptiveSoftmax
from torch import Tensor, nn

from ka_fairseq.loss.positions import select
from ka_fairseq.loss.projection import Logits, Output, Projection

logger = logging.getLogger(__name__)


def run(model: nn.Module, net_input: Mapping[str, Any], rows: Tensor) -> Output:
    """Run a fairseq encoder–decoder or language model up to the input of its softmax.

    The function calls the model as a whole, so a DistributedDataParallel wrapper sees the call.

    Args:
        model: the model, wrapped or not.
        net_input: a fairseq sample's ``net_input``; not changed.
        rows: the N target positions to keep, from :func:`.positions.target_rows`. Padding is
            dropped here, so later steps never see padding.

    Returns:
        The output of the N positions, in the order of ``rows``.
    """
    bare = unwrap(model)
    # With --find-unused-parameters, DistributedDataParallel marks the projection as unused, because
    # a forward pass to the features skips it. Training then stops at the projection's gradient.
    looks_for_unused = getattr(model, "find_unused_parameters", False)
    if has_plain_projection(bare) and not looks_for_unused:
        features, _ = model(**net_input, features_only=True)
        layer = bare.decoder.output_projection
        return Projection(select(features, rows), layer.weight, layer.bias)
    tell_of_whole_logits(type(bare).__name__, looks_for_unused)
    net_output = model(**net_input)
    adaptive = getattr(bare.decoder, "adaptive_softmax", None)
    if adaptive is not None:  # then the model's output is features
        return Logits(adaptive_log_probs(adaptive, select(net_output[0], rows)))
    # Only the model knows how to normalise its output (with a copy mechanism, for example).
    return Logits(select(bare.get_normalized_probs(net_output, log_probs=True), rows))


@functools.cache
def tell_of_whole_logits(model: str, looks_for_unused: bool) -> None:
    """Warn, once for each kind of model, that a step needs more memory than the docs say."""
    reason = "--find-unused-parameters" if looks_for_unused else "its output layer"
    logger.warning(
        f"{model}: because of {reason}, the log-probabilities of a whole batch, (tokens × types), "
        f"are held at once, not in chunks; if memory runs out, lower --max-tokens"
    )


def has_plain_projection(model: nn.Module) -> bool:
    """Return whether one ``nn.Linear`` computes the logits from the decoder's features."""
    decoder = model.decoder
    return (
        _is_plain_transformer(model)
        and isinstance(decoder, TransformerDecoderBase)
        and all(
            getattr(type(decoder), method) is getattr(TransformerDecoderBase, method)
            for method in ("forward", "output_layer", "get_normalized_probs")
        )
        and decoder.adaptive_softmax is None
        and type(decoder.output_projection) is nn.Linear
    )


def _is_plain_transformer(model: nn.Module) -> bool:
    """Return whether a Transformer passes ``features_only`` on and keeps fairseq's softmax."""
    own = type(model)
    if isinstance(model, TransformerLanguageModel):  # forward passes all arguments to the decoder
        return (
            own.forward is TransformerLanguageModel.forward
            and own.get_normalized_probs is BaseFairseqModel.get_normalized_probs
        )
    return (
        isinstance(model, TransformerModelBase)
        and "features_only" in inspect.signature(model.forward).parameters
        and own.get_normalized_probs is TransformerModelBase.get_normalized_probs
    )


def adaptive_log_probs(softmax: AdaptiveSoftmax, features: Tensor) -> Tensor:
    """Return log p over the whole vocabulary from an adaptive softmax, with a gradient.

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
    """Return the model inside fairseq's and torch's distributed wrappers."""
    while isinstance(getattr(model, "module", None), nn.Module):
        model = model.module
    return model


@contextlib.contextmanager
def encoders_run_once(models: Iterable[nn.Module]) -> Iterator[None]:
    """Run each model's encoder once inside the block; later calls return the first answer.

    Use: several passes of the decoders over the same sources. The models are still called as a
    whole, so a DistributedDataParallel wrapper sees each call. An encoder gets the gradients of all
    passes. A model without an encoder stays unchanged.
    """
    with contextlib.ExitStack() as stack:
        for model in models:
            encoder = getattr(unwrap(model), "encoder", None)
            if encoder is not None:
                stack.enter_context(_runs_once(encoder))
        yield


@contextlib.contextmanager
def _runs_once(encoder: nn.Module) -> Iterator[None]:
    forward = encoder.forward
    replaced = vars(encoder).get("forward")
    answers: list[Any] = []

    @functools.wraps(forward)
    def once(*args: Any, **kwargs: Any) -> Any:
        if not answers:
            answers.append(forward(*args, **kwargs))
        return answers[0]

    encoder.forward = once
    try:
        yield
    finally:
        if replaced is None:
            del encoder.forward
        else:
            encoder.forward = replaced
