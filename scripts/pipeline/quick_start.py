"""``python quick_start.py MODULE …``: as ``python -m MODULE …``, but fairseq is there sooner.

To register all its criterions and tasks, fairseq imports scikit-learn and SciPy's statistics, for
two of them that classify sentences and sounds: a third of the time until a command begins to work.
Here those two find them when they call them; whatever is imported later is the package itself.
"""

from __future__ import annotations

import importlib
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

LATER = ("sklearn", "sklearn.metrics", "scipy.stats")


class Later(ModuleType):
    """Stands for a module of functions: what is called of it is imported then."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        """Return what calls the function of that name."""
        if name.startswith("__"):
            raise AttributeError(name)  # what the import system asks for

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


def import_fairseq() -> None:
    """Import fairseq, with the modules of `LATER` put off where they are not there already."""
    put_off = {name: Later(name) for name in LATER if name not in sys.modules}
    for name, module in put_off.items():
        parent, _, own = name.rpartition(".")
        if parent in put_off:
            setattr(put_off[parent], own, module)
    sys.modules.update(put_off)
    try:
        importlib.import_module("fairseq")
    finally:
        for name in put_off:
            del sys.modules[name]


def main() -> None:
    """Run the module that the command line names, with the rest of the command line."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path.cwd())  # as with -m; this file's folder is no place for modules
    del sys.argv[0]
    import_fairseq()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
