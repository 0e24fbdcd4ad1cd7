"""The registry of divergences: the choices of ``--divergence``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import Field
from typing import TypeVar

from ka_fairseq.loss.divergences.base import Divergence
from ka_fairseq.loss.divergences.by_autograd import ByAutograd, OfFunction, Value
from ka_fairseq.loss.divergences.options import Option, options_of
from ka_fairseq.ranges import check

# Filled by register_divergence.
DIVERGENCES: dict[str, Divergence] = {}
# Called after each registration: criterions then renew their options.
AFTER_REGISTRATION: list[Callable[[], None]] = []

D = TypeVar("D", Divergence, type[Divergence], Value)


def register_divergence(name: str) -> Callable[[D], D]:
    """Register a divergence: a function that returns D, or a :class:`Divergence` class or instance.

    ::

        @register_divergence("hellinger")
        def hellinger(learner_lprobs, teacher_lprobs):  # (n, V), (n, V) -> (n,)
            return 0.5 * ((learner_lprobs / 2).exp() - (teacher_lprobs / 2).exp()).pow(2).sum(-1)

    A class may have fields made by :func:`~ka_fairseq.loss.divergences.options.option`. These
    fields become options of ``--criterion transfer``.

    Args:
        name: the value of ``--divergence``.

    Raises:
        ValueError: the name is taken, the object is not a divergence (see
            :meth:`ByAutograd.check`), or an option clashes with an existing option.
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
            raise ValueError(f"there is already a divergence {name!r}: choose another name")
        try:
            for tell in AFTER_REGISTRATION:
                tell()
        except ValueError:
            del DIVERGENCES[name]
            raise
        return divergence

    return register


def divergence_names() -> list[str]:
    """Return the names that are registered now."""
    return list(DIVERGENCES)


def divergence_named(name: str) -> Divergence:
    """Return the divergence of a name.

    Raises:
        ValueError: the name is unknown; the message lists the known names.
    """
    check("divergence", name, tuple(DIVERGENCES))
    return DIVERGENCES[name]


def divergence_options() -> dict[Option, list[str]]:
    """Return the options of all divergences, each with the names of its divergences."""
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
                f"there is already an option {option.flag} with another default, help or range: "
                f"choose another name"
            )
