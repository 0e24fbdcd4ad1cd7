"""Options of a divergence: fields that the command line can set, too."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ka_fairseq import ranges
from ka_fairseq.ranges import Range


@dataclass(frozen=True)
class Option:
    """A number that a divergence can be given.

    Attributes:
        flag: as it is typed, ``--js-beta``.
        default: where it is not typed.
        help: what it is, in a line.
        valid: its range.
        number: float or int.
    """

    flag: str
    default: float
    help: str
    valid: Range
    number: type = float

    @property
    def name(self) -> str:
        """As configurations have it: ``js_beta``."""
        return self.flag.removeprefix("--").replace("-", "_")


def option(flag: str, default: float, help: str, valid: Range, number: type = float) -> Any:
    """A field of a divergence that is an option of ``--criterion transfer`` as well.

    ::

        alpha: float = option("--renyi-alpha", 0.5, "α, the order", Range(0.01, 0.99))

    The arguments are those of :class:`Option`. Divergences may share an option, that is the same
    one in everything.
    """
    declared = Option(flag, default, help, valid, number)
    return field(default=default, metadata={"option": declared})


def options_of(divergence: Any) -> dict[str, tuple[Option, str]]:
    """The options of a divergence: the option's name → (option, name of the field)."""
    return {
        each.metadata["option"].name: (each.metadata["option"], each.name)
        for each in (fields(divergence) if is_dataclass(divergence) else ())
        if "option" in each.metadata
    }


def check(divergence: Any) -> None:
    """Refuse a divergence with an option outside of its range.

    Raises:
        ValueError: the message says what would be valid.
    """
    for declared, name in options_of(divergence).values():
        ranges.check(declared.flag, getattr(divergence, name), declared.valid)
