"""Check the values of options. Each option declares its valid values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ka_fairseq.errors import UserError


@dataclass(frozen=True)
class Range:
    """The finite numbers from ``least`` to ``most``.

    Attributes:
        least: where the range begins.
        most: where the range ends.
        without_least: whether ``least`` itself is left out.
        without_most: whether ``most`` itself is left out.
        or_zero: whether 0 is valid as well.
    """

    least: float
    most: float = math.inf
    without_least: bool = False
    without_most: bool = False
    or_zero: bool = False

    def __contains__(self, value: float) -> bool:
        if self.or_zero and value == 0:
            return True
        above = value > self.least if self.without_least else value >= self.least
        below = value < self.most if self.without_most else value <= self.most
        return above and below and math.isfinite(value)

    def __str__(self) -> str:
        """Return the rule in words that follow "must": "lie in [0, 1)"."""
        if self.most == math.inf:
            known = f"be greater than {self.least}" if self.without_least else None
            return known or f"be {self.least} or more"
        if not (self.without_least or self.without_most):
            known = f"lie between {self.least} and {self.most}"
        else:
            left, right = "[("[self.without_least], "])"[self.without_most]
            known = f"lie in {left}{self.least}, {self.most}{right}"
        return f"be 0, or {known}" if self.or_zero else known


Valid = Range | tuple[str, ...]
"""A range of numbers, or the valid names."""


def check(option: str, value: Any, valid: Valid) -> None:
    """Refuse a value that is not valid.

    Args:
        option: its name on the command line, such as ``--top-k``.
        value: the option's value.
        valid: the valid values.

    Raises:
        ValueError: the value is not valid. The message lists the valid values.
    """
    if isinstance(valid, tuple):
        if value not in valid:
            raise ValueError(f"unknown {option} {value!r}; choose from {', '.join(valid)}")
    elif value not in valid:
        raise ValueError(f"{option} must {valid}, not {value}")


def check_options(cfg: Any, config: type, **others: Valid) -> None:
    """Refuse a configuration with a value that is not valid.

    An option that is None or missing is accepted.

    Args:
        cfg: the values: an instance of ``config``, or the DictConfig that fairseq makes of it.
        config: a dataclass; the function checks fields with ``"valid"`` in their metadata.
        others: the valid values of fields that other dataclasses declare.

    Raises:
        UserError: a value is not valid. The message lists the valid values.
    """
    declared = {
        field.name: field.metadata["valid"] for field in fields(config) if "valid" in field.metadata
    }
    for name, valid in (declared | others).items():
        # Read by key: in OmegaConf 2.0, which fairseq 0.12.2 requires, `select` is a method.
        value = cfg.get(name) if isinstance(cfg, Mapping) else getattr(cfg, name, None)
        if value is None:
            continue
        try:
            check(f"--{name.replace('_', '-')}", value, valid)
        except ValueError as error:
            raise UserError(str(error)) from error
