"""``python quick_start.py MODULE …``: run ``python -m MODULE …`` with a faster import of fairseq.

Half of the time until a training begins is spent on work that the training does not need. Here this
work is left out, or waits until something needs it:

- fairseq registers all its criterions and tasks. Two of them, for classifying sentences and sounds,
  import scikit-learn and SciPy's statistics. Here they get stand-ins, which import these packages
  when a function is called. Later imports get the packages themselves.
- PyTorch imports its compiler, TorchDynamo, to exclude the optimizer's functions from compilation.
  Here the functions are excluded once something else imports TorchDynamo.
- The garbage collector searches all imported objects again and again, and finds nothing. Here it is
  off until fairseq is imported.
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
    """A stand-in for a module of functions. The call of a function imports the module."""

    def __getattr__(self, name: str) -> Function:
        """Return a function that calls the module's function of this name."""
        if name.startswith("__"):
            raise AttributeError(name)  # the import system asks for such names

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


@contextlib.contextmanager
def put_off() -> Iterator[None]:
    """Let imports find stand-ins for the modules of `LATER` that are not imported yet."""
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
    """A stand-in for TorchDynamo: has what optimizers call; other names import the package."""

    def graph_break(self, *_: Any, **__: Any) -> None:
        """Do nothing: nothing is compiled."""

    def disable(self, function: Function, *args: Any, **kwargs: Any) -> Function:
        """Return a wrapper of the function that TorchDynamo, once imported, does not compile."""

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
        """Import the package, and return its attribute of this name."""
        if name.startswith("__") and name != "__path__":  # asked for to import its modules
            raise AttributeError(name)
        if sys.modules[COMPILER] is self:
            del sys.modules[COMPILER]
        return getattr(importlib.import_module(COMPILER), name)


class FairseqFinder:
    """Finds fairseq once for the import system, and has `_execute` execute it.

    fairseq is not imported here: a command, such as train, may set up logging before fairseq does.
    """

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Return fairseq's usual import spec, with `_execute` in its loader."""
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
    if "torch._compile" in sys.modules:  # from PyTorch 2.1 on: the module that imports the compiler
        sys.modules.setdefault(COMPILER, LaterCompiler(COMPILER))
    gc.freeze()
    gc.enable()


def install() -> None:
    """Make the import of fairseq in this process faster, if fairseq is not imported yet."""
    if "fairseq" not in sys.modules:
        sys.meta_path.insert(0, FairseqFinder())


def main() -> None:
    """Run the module that the command line names, with the rest of the command line."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path.cwd())  # as with -m: modules are not looked up in this file's folder
    del sys.argv[0]
    install()
    gc.disable()  # until fairseq is imported
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
