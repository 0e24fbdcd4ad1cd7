"""The divergences by name: what ``--divergence`` chooses from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field
from typing import TypeVar

from ka_fairseq.loss.divergences.base import Divergence
from ka_fairseq.loss.divergences.by_autograd import ByAutograd, OfFunction, Value
from ka_fairseq.loss.divergences.options import Option, options_of
from ka_fairseq.ranges import check

# What register_divergence fills.
DIVERGENCES: dict[str, Divergence] = {}
# Called once a divergence is registered: a criterion makes options of its own from those here.
AFTER_REGISTRATION: list[Callable[[], None]] = []

D = TypeVar("D", Divergence, type[Divergence], Value)


def register_divergence(name: str) -> Callable[[D], D]:
    """Register a divergence: a function of its value, or a :class:`Divergence`, class or instance.

    ::

        @register_divergence("hellinger")
        def hellinger(learner_lprobs, teacher_lprobs):  # (n, V), (n, V) -> (n,)
            return 0.5 * ((learner_lprobs / 2).exp() - (teacher_lprobs / 2).exp()).pow(2).sum(-1)

    A class whose fields are :func:`~ka_fairseq.loss.divergences.options.option`\\ s gives
    ``--criterion transfer`` these options.

    Args:
        name: what ``--divergence`` calls it.

    Raises:
        ValueError: the name is taken by another one, what is registered is no divergence (see
            :meth:`ByAutograd.check`), or one of its options cannot be.
    """

    def register(divergence: D) -> D:
        try:
            registered = _instance(divergence)
            if isinstance(registered, ByAutograd):
                registered.check()
            _check_options(registered)
        except (TypeError, ValueError) as error:
            raise ValueError(f"the divergence {name!r}: {error}") from error
        if DIVERGENCES.setdefault(name, registered) != registered:
            raise ValueError(f"there is a divergence {name!r} already: choose another name")
        try:
            for tell in AFTER_REGISTRATION:
                tell()
        except ValueError:
            del DIVERGENCES[name]
            raise
        return divergence

    return register


def divergence_names() -> list[str]:
    """The names that are registered now."""
    return list(DIVERGENCES)


def divergence_named(name: str) -> Divergence:
    """The divergence of a name.

    Raises:
        ValueError: there is none; the message lists those that there are.
    """
    check("divergence", name, tuple(DIVERGENCES))
    return DIVERGENCES[name]


def divergence_options() -> dict[Option, list[str]]:
    """The options of all divergences, each with the names of those that have it."""
    found: dict[Option, list[str]] = {}
    for name, divergence in DIVERGENCES.items():
        for option, _ in options_of(divergence).values():
            found.setdefault(option, []).append(name)
    return found


def _instance(divergence: Divergence | type[Divergence] | Value) -> Divergence:
    if not isinstance(divergence, type):
        return divergence if isinstance(divergence, Divergence) else OfFunction(divergence)
    if any(isinstance(value, Field) for value in vars(divergence).values()):
        raise ValueError("a class with options must be a @dataclass(frozen=True)")
    return divergence()


def _check_options(divergence: Divergence) -> None:
    taken = {option.name: option for option in divergence_options()}
    for name, (option, _) in options_of(divergence).items():
        if taken.get(name, option) != option:
            raise ValueError(
                f"there is an option {option.flag} already, which is not the same in "
                f"everything: choose another name"
            )
