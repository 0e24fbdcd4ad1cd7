"""``python quick_start.py MODULE …``: as ``python -m MODULE …``, but fairseq is there sooner.

To register all its criterions and tasks, fairseq imports scikit-learn and SciPy's statistics, for
two of them that classify sentences and sounds: a third of the time until a command begins to work.
Here those two find them when they call them; whatever is imported later is the package itself.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import runpy
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
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


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Let stand-ins be imported for the modules of `LATER`, where they are not there already."""
    modules = {name: Later(name) for name in LATER if name not in sys.modules}
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if parent in modules:
            setattr(modules[parent], own, module)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


class FairseqFinder:
    """Finds fairseq for the import system once, to be executed with `put_off`.

    Not imported here: a command may have to set up logging before fairseq does, as train has.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return how fairseq is loaded, as it is found without this finder."""
        if name != "fairseq":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader.exec_module = put_off()(spec.loader.exec_module)
        return spec


def main() -> None:
    """Run the module that the command line names, with the rest of the command line."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path.cwd())  # as with -m; this file's folder is no place for modules
    del sys.argv[0]
    sys.meta_path.insert(0, FairseqFinder())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
