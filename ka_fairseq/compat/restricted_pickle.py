"""Read pickles that may be hostile: a pickle can use only the classes and functions in a table.

The class is for torch before 2.4. There ``torch.load(weights_only=True)`` has no allow-list, and
torch 1.13 reads no floats. The class replaces torch's own unpickler; torch does the rest of the
reading. See :func:`ka_fairseq.compat.reading.allow_fairseq_checkpoints`.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, ClassVar


class RestrictedUnpickler(pickle._Unpickler):
    """Python's unpickler, which checks each step that could run code against a table.

    The base class is the unpickler written in Python. Steps of the C version cannot be replaced.
    """

    allowed: ClassVar[Mapping[str, Any]]
    """``{"module.name": object}``: the objects that a pickle may look up, call and build."""

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)

    def find_class(self, module: str, name: str) -> Any:
        """Look up a global in the table, without an import."""
        try:
            return self.allowed[f"{module}.{name}"]
        except KeyError:
            raise pickle.UnpicklingError(
                f"GLOBAL {module}.{name} was not an allowed global"
            ) from None

    def _check_known(self, thing: Any, deed: str) -> None:
        if not any(thing is known for known in self.allowed.values()):
            raise pickle.UnpicklingError(f"{deed} {type(thing).__name__} is not allowed")

    def load_reduce(self) -> None:
        """Call a function, if it is in the table."""
        self._check_known(self.stack[-2], "calling a")
        super().load_reduce()

    def load_newobj(self) -> None:
        """Make an object without its constructor, if its class is in the table."""
        self._check_known(self.stack[-2], "making a")
        super().load_newobj()

    def load_build(self) -> None:
        """Set an object's state, if its class is in the table; never a class's or a function's."""
        self._check_known(type(self.stack[-2]), "setting the state of a")
        super().load_build()

    def load_append(self) -> None:
        """Append to a list. Other types are refused: their ``append`` could run code."""
        self._check_type(self.stack[-2], list)
        super().load_append()

    def load_appends(self) -> None:
        """Append several items to a list."""
        self._check_type(self.metastack[-1][-1], list)
        super().load_appends()

    def load_setitem(self) -> None:
        """Set an item of a dictionary."""
        self._check_type(self.stack[-3], dict, OrderedDict)
        super().load_setitem()

    def load_setitems(self) -> None:
        """Set several items of a dictionary."""
        self._check_type(self.metastack[-1][-1], dict, OrderedDict)
        super().load_setitems()

    @staticmethod
    def _check_type(thing: Any, *types: type) -> None:
        if type(thing) not in types:
            raise pickle.UnpicklingError(f"adding to a {type(thing).__name__} is not allowed")

    def load_refused(self) -> None:
        """Refuse operations that no checkpoint needs: objects of protocol 0, and extensions."""
        raise pickle.UnpicklingError("the pickle has an operation that no checkpoint needs")


def _fill_dispatch() -> None:
    checked = {
        pickle.REDUCE: RestrictedUnpickler.load_reduce,
        pickle.NEWOBJ: RestrictedUnpickler.load_newobj,
        pickle.BUILD: RestrictedUnpickler.load_build,
        pickle.APPEND: RestrictedUnpickler.load_append,
        pickle.APPENDS: RestrictedUnpickler.load_appends,
        pickle.SETITEM: RestrictedUnpickler.load_setitem,
        pickle.SETITEMS: RestrictedUnpickler.load_setitems,
    }
    refused = (
        *(pickle.INST, pickle.OBJ, pickle.NEWOBJ_EX, pickle.STACK_GLOBAL, pickle.ADDITEMS),
        *(pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.PERSID),
        *(pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
    )
    table = RestrictedUnpickler.dispatch
    table.update({code[0]: step for code, step in checked.items()})
    table.update({code[0]: RestrictedUnpickler.load_refused for code in refused})


_fill_dispatch()


def restricted_to(allowed: Mapping[str, Any]) -> SimpleNamespace:
    """Return a pickle module for torch: ``Unpickler`` and ``load``, restricted to a table."""
    unpickler = type("Unpickler", (RestrictedUnpickler,), {"allowed": dict(allowed)})

    def load(file: Any, **options: Any) -> Any:
        return unpickler(file, **options).load()

    return SimpleNamespace(Unpickler=unpickler, load=load)
