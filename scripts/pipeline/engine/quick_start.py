"""``python quick_start.py MODULE …``: run ``python -m MODULE …`` with a faster import of fairseq.

The import of fairseq imports all its criterions and tasks. Two of them, for classifying sentences
and sounds, import scikit-learn and SciPy's statistics. These two imports take as long as the rest.
This module gives fairseq stand-ins for the two packages. A stand-in imports its package when one of
its functions is called. Later imports get the packages themselves. The garbage collector is off
during the import of fairseq, because it would find nothing to free.
"""

from __future__ import annotations

import gc
import importlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

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

    Without effect if fairseq is imported already.
    """
    if "fairseq" in sys.modules:
        return
    gc.disable()
    stand_ins = {name: Later(name) for name in LATER}
    stand_ins["sklearn"].metrics = stand_ins["sklearn.metrics"]
    sys.modules.update(stand_ins)
    # One module of fairseq sets up logging. After that, the setup of the command that runs next
    # would have no effect.
    with mock.patch("logging.basicConfig"):
        importlib.import_module("fairseq")
    for name in stand_ins:
        del sys.modules[name]
    gc.freeze()
    gc.enable()


def main() -> None:
    """Run the module that the command line names, with the rest of the command line."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path.cwd())  # as with -m; modules in this file's folder are not found
    del sys.argv[0]
    import_fairseq()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
