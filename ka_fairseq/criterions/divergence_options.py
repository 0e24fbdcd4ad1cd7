"""The options that some divergences have of their own."""

# fairseq makes command-line options from real types of the form Optional[...].
# ruff: noqa: UP045

from dataclasses import dataclass, field, fields
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import Divergence, divergence_named, divergence_names


@dataclass
class DivergenceOptions(FairseqDataclass):
    """What is not given stays the divergence's own default."""

    js_beta: Optional[float] = field(
        default=None,
        metadata={
            "help": "js: β from 0 (forward KL) over 0.5 (Jensen–Shannon, the default) to 1 "
            "(backward KL)"
        },
    )
    skew_alpha: Optional[float] = field(
        default=None,
        metadata={
            "help": "skew_forward_kl, skew_backward_kl: α in [0, 1), how much of the mixture is "
            "the distribution itself (default: 0.1)"
        },
    )
    ab_alpha: Optional[float] = field(
        default=None,
        metadata={"help": "alpha_beta: α, the teacher's exponent (default: 0.5)"},
    )
    ab_beta: Optional[float] = field(
        default=None,
        metadata={"help": "alpha_beta: β, the learner's exponent (default: 0.5)"},
    )
    akl_head: Optional[float] = field(
        default=None,
        metadata={
            "help": "adaptive_kl: μ in (0, 1), the teacher's mass that makes the head "
            "(default: 0.5)"
        },
    )


def configured(name: str, divergence: Divergence, cfg: Any) -> Divergence:
    """A divergence with those of its options that were given.

    Args:
        name: of the divergence.
        divergence: to be configured.
        cfg: a criterion's configuration, with :class:`DivergenceOptions` or without.

    Raises:
        UserError: an option of another divergence was given, or a value is out of its range.
    """
    names = (option.name for option in fields(DivergenceOptions) if option.name != "_name")
    values = {option: getattr(cfg, option, None) for option in names}
    given = {option: value for option, value in values.items() if value is not None}
    for option in given:
        if option not in divergence.options:
            raise UserError(
                f"--{option.replace('_', '-')} does not go with {name}: it is an option of "
                f"{' and '.join(_with(option))}"
            )
    try:
        return divergence.configured(**given) if given else divergence
    except ValueError as error:
        raise UserError(str(error)) from error


def _with(option: str) -> list[str]:
    return [name for name in divergence_names() if option in divergence_named(name).options]
