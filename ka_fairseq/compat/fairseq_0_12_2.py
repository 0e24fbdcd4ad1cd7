"""Patches for the official release, fairseq 0.12.2 with its OmegaConf 2.0."""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable
from typing import Any

import omegaconf
import torch
from fairseq.models import ARCH_CONFIG_REGISTRY
from fairseq.modules import SinusoidalPositionalEmbedding
from fairseq.modules.transformer_layer import TransformerEncoderLayerBase
from omegaconf import OmegaConf
from torch import nn

OMEGACONF = tuple(int(part) for part in omegaconf.__version__.split(".")[:2])

FAST_PATH_COPIES = tuple(
    f"{layer}_{kind}"
    for layer in ("in_proj", "out_proj", "fc1", "fc2")
    for kind in ("weight", "bias")
)
"""Parameters of an encoder layer in fairseq 0.12.2 that are copies of other parameters."""


def _without_copies(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def without_copies(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        for name in FAST_PATH_COPIES:
            delattr(self, name)

    return without_copies


def _upgrade_forgetting_copies(upgrade: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(upgrade)
    def forgetting_copies(self: nn.Module, state_dict: dict[str, Any], name: str) -> None:
        for copy in FAST_PATH_COPIES:
            state_dict.pop(f"{name}.{copy}", None)
        upgrade(self, state_dict, name)

    forgetting_copies.forgets_copies = True
    return forgetting_copies


def leave_out_fast_path() -> None:
    """Build encoders without torch's fast path for inference, which only fairseq 0.12.2 uses.

    For the fast path, a layer of that release has a second copy of its weights
    (``in_proj_weight``, …). The copies

    - are never trained, but are saved in each checkpoint and counted as parameters;
    - get no gradient, which stops DistributedDataParallel;
    - are unknown to all other releases.

    With torch 1.13 the fast path also stops at the first padded batch, because torch needs the kind
    of mask: "Mask Type should be defined". A layer uses the fast path only after its own
    ``_load_from_state_dict`` has filled the copies; the patch removes that method.

    After the patch, checkpoints load in every release, with the copies or without them.
    """
    layer = TransformerEncoderLayerBase
    if hasattr(layer.upgrade_state_dict_named, "forgets_copies"):
        return
    layer.upgrade_state_dict_named = _upgrade_forgetting_copies(layer.upgrade_state_dict_named)
    if "_load_from_state_dict" in vars(layer):
        del layer._load_from_state_dict
        layer.__init__ = _without_copies(layer.__init__)


POSITION_MARKER = "_float_tensor"


def _with_unsaved_marker(init: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(init)
    def with_unsaved_marker(self: nn.Module, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.register_buffer(POSITION_MARKER, torch.zeros(1), persistent=False)

    return with_unsaved_marker


def _load_without_marker(self: nn.Module, state_dict: dict, prefix: str, *args: Any) -> None:
    state_dict.pop(prefix + POSITION_MARKER, None)
    nn.Module._load_from_state_dict(self, state_dict, prefix, *args)


def keep_position_marker_out_of_checkpoints() -> None:
    """Make equal trainings write equal checkpoints, under fairseq 0.12.2 too.

    That release marks the precision of sine positions with a tensor that it never fills. A
    checkpoint then holds the random contents of that memory. Loading makes another such tensor.
    """
    positions = SinusoidalPositionalEmbedding
    if POSITION_MARKER in positions(embedding_dim=4, padding_idx=None, init_size=2).state_dict():
        positions.__init__ = _with_unsaved_marker(positions.__init__)
        positions._load_from_state_dict = _load_without_marker


def _filling_configs(fill: Callable[[Any], None]) -> Callable[[Any], None]:
    @functools.wraps(fill)
    def fill_config(cfg: Any) -> None:
        if not OmegaConf.is_config(cfg):
            fill(cfg)
            return
        options = argparse.Namespace(**OmegaConf.to_container(cfg))
        fill(options)
        # The trainer compares base_layers with 0 before each save; the value must not be None.
        cfg.update({"base_layers": 0, **vars(options)})

    fill_config.fills_configs = True
    return fill_config


def let_architectures_fill_configs() -> None:
    """Give an architecture in a Hydra config its own sizes, under OmegaConf 2.0 too.

    fairseq's architectures set missing options with ``getattr(args, name, default)``. The OmegaConf
    that fairseq 0.12.2 requires returns None there instead of the default. fairseq then takes the
    sizes of its base Transformer: transformer_tiny got 45 million parameters.
    """
    if OMEGACONF >= (2, 1):
        return
    for name, fill in ARCH_CONFIG_REGISTRY.items():
        if not hasattr(fill, "fills_configs"):
            ARCH_CONFIG_REGISTRY[name] = _filling_configs(fill)
