"""Import fairseq in half the time.

The import of fairseq imports all its criterions and tasks. Two of them, for classifying sentences
and sounds, import scikit-learn and SciPy's statistics. These two imports take as long as the rest.
This module gives fairseq stand-ins for the two packages. A stand-in imports its package when one of
its functions is called. Later imports get the packages themselves.

The module imports nothing of this package: scripts/pipeline/engine/quick_start.py loads it alone.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

LATER = ("sklearn", "sklearn.metrics", "scipy.stats")


class Later(ModuleType):
    """A stand-in for a module that has functions. The call of a function imports the module."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return a function that calls the module's function of this name."""
        if name.startswith("__"):
            raise AttributeError(name)  # the import system asks for such names
        return lambda *args, **kwargs: getattr(importlib.import_module(self.__name__), name)(
            *args, **kwargs
        )


def import_fairseq() -> None:
    """Import fairseq with stand-ins for the modules of `LATER`, and remove the stand-ins.

    A module that is imported already needs no stand-in.
    """
    if "fairseq" in sys.modules:
        return
    stand_ins = {name: Later(name) for name in LATER if name not in sys.modules}
    if {"sklearn", "sklearn.metrics"} <= stand_ins.keys():
        stand_ins["sklearn"].metrics = stand_ins["sklearn.metrics"]
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("fairseq")
    finally:
        for name in stand_ins:
            del sys.modules[name]
