"""Options of a divergence: fields that the command line can set."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from ka_fairseq import ranges
from ka_fairseq.ranges import Range


@dataclass(frozen=True)
class Option:
    """An option of a divergence, which is a number.

    Attributes:
        flag: the option on the command line, ``--js-beta``.
        default: the value if the option is not given.
        help: a description of one line.
        valid: the range of valid values.
        number: float or int.
    """

    flag: str
    default: float
    help: str
    valid: Range
    number: type = float

    @property
    def name(self) -> str:
        """Return the option's name in configurations: ``js_beta``."""
        return self.flag.removeprefix("--").replace("-", "_")


def option(flag: str, default: float, help: str, valid: Range, number: type = float) -> Any:
    """Return a field of a divergence that is also an option of ``--criterion transfer``.

    ::

        alpha: float = option("--renyi-alpha", 0.5, "α, the order", Range(0.01, 0.99))

    The arguments are those of :class:`Option`. Divergences may share an option if all arguments are
    equal.
    """
    declared = Option(flag, default, help, valid, number)
    return field(default=default, metadata={"option": declared})


def options_of(divergence: Any) -> dict[str, tuple[Option, str]]:
    """Return the options of a divergence: the option's name → (option, name of the field)."""
    return {
        each.metadata["option"].name: (each.metadata["option"], each.name)
        for each in (fields(divergence) if is_dataclass(divergence) else ())
        if "option" in each.metadata
    }


def check(divergence: Any) -> None:
    """Refuse a divergence with an option out of its range.

    Raises:
        ValueError: an option is out of its range; the message gives the range.
    """
    for declared, name in options_of(divergence).values():
        ranges.check(declared.flag, getattr(divergence, name), declared.valid)
