"""``python quick_start.py MODULE …``: as ``python -m MODULE …``, but fairseq is there sooner.

Half of the time until a training begins goes into what it has no use for, and waits here until
something asks for it:

- To register all its criterions and tasks, fairseq imports scikit-learn and SciPy's statistics, for
  two of them that classify sentences and sounds. Those two find them when they call them; whatever
  is imported later is the package itself.
- PyTorch imports its compiler, TorchDynamo, to mark the optimizer's functions as none of its
  business. They are marked once something else imports it.
- The garbage collector looks through all that is imported, again and again, and finds nothing.
"""

from __future__ import annotations

import contextlib
import functools
import gc
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
COMPILER = "torch._dynamo"

Function = Callable[..., Any]


class Later(ModuleType):
    """Stands for a module of functions: what is called of it is imported then."""

    def __getattr__(self, name: str) -> Function:
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


class LaterCompiler(ModuleType):
    """Stands for TorchDynamo: has what optimizers call, and all else imports the package."""

    def graph_break(self, *_: Any, **__: Any) -> None:
        """Nothing, where nothing is compiled."""

    def disable(self, function: Function, *args: Any, **kwargs: Any) -> Function:
        """Return what calls a function, marked as not to be compiled where there is a compiler."""

        @functools.wraps(function)
        def call(*words: Any, **named: Any) -> Any:
            if sys.modules[COMPILER] is self:
                return function(*words, **named)
            return marked()(*words, **named)

        @functools.cache
        def marked() -> Function:
            return sys.modules[COMPILER].disable(function, *args, **kwargs)

        return call

    def __getattr__(self, name: str) -> Any:
        """Import the package, and return what it has of that name."""
        if name.startswith("__") and name != "__path__":  # which is asked for its modules' sake
            raise AttributeError(name)
        if sys.modules[COMPILER] is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)


class FairseqFinder:
    """Finds fairseq for the import system once, to be executed as `_execute` does it.

    Not imported here: a command may have to set up logging before fairseq does, as train has.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return how fairseq is loaded, as it is found without this finder."""
        if name != "fairseq":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec and spec.loader:
            spec.loader.exec_module = functools.partial(_execute, spec.loader.exec_module)
        return spec


def _execute(execute: Callable[[ModuleType], None], fairseq: ModuleType) -> None:
    with put_off():
        execute(fairseq)
    if "torch._compile" in sys.modules:  # from PyTorch 2.1 on: what imports the compiler by itself
        sys.modules.setdefault(COMPILER, LaterCompiler(COMPILER))
    gc.freeze()
    gc.enable()


def install() -> None:
    """Have fairseq come sooner in this process, where it is not there yet."""
    if "fairseq" not in sys.modules:
        sys.meta_path.insert(0, FairseqFinder())


def main() -> None:
    """Run the module that the command line names, with the rest of the command line."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path.cwd())  # as with -m; this file's folder is no place for modules
    del sys.argv[0]
    install()
    gc.disable()  # until fairseq is there
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
