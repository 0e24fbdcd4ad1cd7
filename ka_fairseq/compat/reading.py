"""Let ``torch.load(weights_only=True)`` read checkpoints of fairseq-train."""

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
    """Return the types in fairseq checkpoints other than tensors and plain containers.

    ``args`` is an argparse.Namespace in releases up to 0.10. ``extra_state`` holds meters and best
    scores, which are numpy scalars and arrays.
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
        # Files written under numpy 1 use the old module name, files of numpy 2 the new name. Each
        # numpy must read both.
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
        # Older releases have a fixed list. The unpickler of torch 1.13 reads no float at all.
        torch.serialization._weights_only_unpickler = restricted_pickle.restricted_to(
            torch._weights_only_unpickler._get_allowed_globals()
            | {"_codecs.encode": _codecs.encode}  # how protocol 2 writes bytes
            | dict(map(_named, checkpoint_globals()))
        )


def _named(entry: Any) -> tuple[str, Any]:
    """Return ``("module.name", object)`` for an entry of :func:`checkpoint_globals`."""
    if isinstance(entry, tuple):
        thing, name = entry
        return name, thing
    return f"{entry.__module__}.{entry.__qualname__}", entry
