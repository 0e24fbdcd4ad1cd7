"""Reading what fairseq-train wrote with ``weights_only=True``."""

from __future__ import annotations

import _codecs
import argparse
import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ka_fairseq.compat import restricted_pickle


def checkpoint_globals() -> list[Any]:
    """What fairseq checkpoints hold besides tensors and plain containers.

    ``args`` (an argparse.Namespace in releases up to 0.10) and, in ``extra_state``, meters and
    best scores that are numpy scalars and arrays.
    """
    multiarray = importlib.import_module(
        "numpy._core.multiarray" if hasattr(np, "_core") else "numpy.core.multiarray"
    )
    dtype_classes = {type(np.dtype(code)) for code in "?bBhHiIlLqQefd"}
    return [
        argparse.Namespace,
        np.ndarray,
        np.dtype,
        *sorted(dtype_classes, key=lambda cls: cls.__name__),
        # A file written under numpy 1 names these by their old place, under numpy 2 by the new
        # one, whichever numpy reads it.
        *(
            (getattr(multiarray, name), f"numpy.{core}.multiarray.{name}")
            for name in ("_reconstruct", "scalar")
            for core in ("core", "_core")
        ),
    ]


def allow_fairseq_checkpoints() -> None:
    """Allow-list exactly :func:`checkpoint_globals` for ``torch.load(weights_only=True)``."""
    if hasattr(torch.serialization, "add_safe_globals"):  # since torch 2.4
        torch.serialization.add_safe_globals(checkpoint_globals())
    elif not isinstance(torch.serialization._weights_only_unpickler, SimpleNamespace):
        # Older ones have a fixed list, and torch 1.13's unpickler reads no float at all.
        torch.serialization._weights_only_unpickler = restricted_pickle.restricted_to(
            torch._weights_only_unpickler._get_allowed_globals()
            | {"_codecs.encode": _codecs.encode}  # how protocol 2 writes bytes
            | dict(map(_named, checkpoint_globals()))
        )


def _named(entry: Any) -> tuple[str, Any]:
    """``("module.name", object)`` for one of :func:`checkpoint_globals`."""
    if isinstance(entry, tuple):
        thing, name = entry
        return name, thing
    return f"{entry.__module__}.{entry.__qualname__}", entry
