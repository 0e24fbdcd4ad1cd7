"""λ and the mixture of both KLs over the updates of a training."""

# fairseq makes command-line options from real types of the form Optional[...].
# ruff: noqa: UP045

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from fairseq.dataclass import FairseqDataclass

from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import Divergence
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.schedule import SHAPES, Schedule


@dataclass
class TransferWeightSchedule(FairseqDataclass):
    """λ from ``transfer_weight`` to another."""

    transfer_weight_schedule: str = field(
        default="constant",
        metadata={
            "help": f"how λ goes from --transfer-weight to --transfer-weight-to: "
            f"{', '.join(SHAPES)} (--transfer-weight throughout)"
        },
    )
    transfer_weight_to: Optional[float] = field(
        default=None, metadata={"help": "λ at the end of its schedule, and from then on"}
    )
    transfer_weight_updates: Optional[int] = field(
        default=None, metadata={"help": "over how many updates λ goes there"}
    )


@dataclass
class MixtureSchedule(FairseqDataclass):
    """The share of the backward KL in ½ forward + ½ backward."""

    mixture_from: Optional[float] = field(
        default=None,
        metadata={
            "help": "the mixture of both KLs alone: the share of the backward one (default: 0.5), "
            "or where its schedule begins"
        },
    )
    mixture_schedule: str = field(
        default="constant",
        metadata={
            "help": f"how that share goes from --mixture-from to --mixture-to: "
            f"{', '.join(SHAPES)} (--mixture-from throughout)"
        },
    )
    mixture_to: Optional[float] = field(
        default=None, metadata={"help": "the share at the end of its schedule, and from then on"}
    )
    mixture_updates: Optional[int] = field(
        default=None, metadata={"help": "over how many updates the share goes there"}
    )


def scheduled(objective: Objective, cfg: Any) -> Callable[[int | None], Objective] | None:
    """From an update's number, the first is 0, to its objective; None where it stays as it is.

    No number at all, as in fairseq-validate, gives what the schedules come to.

    Args:
        objective: with the λ and the divergence that the options name.
        cfg: a criterion's configuration, with a :class:`MixtureSchedule` or without.

    Raises:
        UserError: an option is missing, out of its range, or does not go with the others.
    """
    weight = _schedule(cfg, "transfer_weight", objective.transfer_weight)
    share = _mixture(objective.divergence, cfg)
    if weight is None and share is None:
        return None

    def at(update: int | None) -> Objective:
        changed = objective
        if weight is not None:
            changed = replace(changed, transfer_weight=weight.at(update))
        if share is not None:
            divergence = objective.divergence.with_backward_share(share.at(update))
            changed = replace(changed, divergence=divergence)
        return changed

    return at


def _mixture(divergence: Divergence, cfg: Any) -> Schedule | None:
    """The schedule of the backward KL's share, where one of its options was given."""
    start = getattr(cfg, "mixture_from", None)
    share = _schedule(cfg, "mixture", 0.5 if start is None else _in_range("mixture-from", start))
    if share is None and start is not None:
        share = Schedule("constant", start, start, 1)
    if share is not None:
        try:
            divergence.with_backward_share(share.start)
        except ValueError as error:
            raise UserError(f"--mixture-from and --mixture-schedule: {error}") from error
    return share


def _schedule(cfg: Any, name: str, start: float) -> Schedule | None:
    flag = name.replace("_", "-")
    shape = getattr(cfg, f"{name}_schedule", "constant")
    end, updates = (getattr(cfg, f"{name}_{field}", None) for field in ("to", "updates"))
    if shape not in SHAPES:
        raise UserError(f"unknown --{flag}-schedule {shape!r}; choose from {', '.join(SHAPES)}")
    if shape == "constant":
        if end is not None or updates is not None:
            raise UserError(
                f"--{flag}-to and --{flag}-updates need --{flag}-schedule linear or cosine"
            )
        return None
    if end is None or updates is None:
        raise UserError(f"--{flag}-schedule {shape} needs --{flag}-to and --{flag}-updates")
    if updates < 1:
        raise UserError(f"--{flag}-updates must be 1 or more, not {updates}")
    return Schedule(shape, start, _in_range(f"{flag}-to", end), updates)


def _in_range(flag: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise UserError(f"--{flag} must lie between 0 and 1, not {value}")
    return value
