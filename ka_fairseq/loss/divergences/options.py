"""Options of a divergence: fields that the command line can set, too."""

from __future__ import annotations

from dataclasses import Field, dataclass, field, fields, is_dataclass
from typing import Any

from ka_fairseq import ranges
from ka_fairseq.ranges import Range

# A module may postpone its annotations, which are strings then.
_NUMBERS = {float: float, "float": float, int: int, "int": int}


@dataclass(frozen=True)
class Option:
    """A number that a divergence can be given.

    Attributes:
        flag: as it is typed, ``--js-beta``.
        default: where it is not typed.
        help: what it is, in a line.
        valid: its range.
    """

    flag: str
    default: float
    help: str
    valid: Range

    @property
    def name(self) -> str:
        """As configurations have it: ``js_beta``."""
        return self.flag.removeprefix("--").replace("-", "_")


def option(flag: str, default: float, help: str, valid: Range) -> Any:
    """A field of a divergence that is an option of ``--criterion transfer`` as well.

    ::

        alpha: float = option("--renyi-alpha", 0.5, "α, the order", Range(0.01, 0.99))

    The arguments are those of :class:`Option`. Divergences may share an option, that is the same
    one in everything.
    """
    return field(default=default, metadata={"option": Option(flag, default, help, valid)})


def options_of(divergence: Any) -> dict[str, tuple[Option, str]]:
    """The options of a divergence: the option's name → (option, name of the field)."""
    return {
        declared.metadata["option"].name: (declared.metadata["option"], declared.name)
        for declared in _fields(divergence)
    }


def number_of(divergence: Any, option: Option) -> type:
    """What kind of number an option takes: int or float.

    Raises:
        ValueError: its field is annotated as something else.
    """
    (declared,) = (each for each in _fields(divergence) if each.metadata["option"] == option)
    if declared.type not in _NUMBERS:
        raise ValueError(f"{option.flag} must be annotated as float or int, not {declared.type}")
    return _NUMBERS[declared.type]


def check(divergence: Any) -> None:
    """Refuse a divergence with an option outside of its range.

    Raises:
        ValueError: the message says what would be valid.
    """
    for declared, name in options_of(divergence).values():
        ranges.check(declared.flag, getattr(divergence, name), declared.valid)


def _fields(divergence: Any) -> list[Field]:
    if not is_dataclass(divergence):
        return []
    return [each for each in fields(divergence) if "option" in each.metadata]
