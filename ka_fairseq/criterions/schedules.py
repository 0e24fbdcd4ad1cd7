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
from ka_fairseq.ranges import Range

# λ, and the share of one KL in the mixture of both.
SHARE = Range(0, 1)


@dataclass
class TransferWeightSchedule(FairseqDataclass):
    """λ from ``transfer_weight`` to another."""

    transfer_weight_schedule: str = field(
        default="constant",
        metadata={
            "help": f"how λ goes from --transfer-weight to --transfer-weight-to: "
            f"{', '.join(SHAPES)} (--transfer-weight throughout)",
            "valid": tuple(SHAPES),
        },
    )
    transfer_weight_to: Optional[float] = field(
        default=None,
        metadata={"help": "λ at the end of its schedule, and from then on", "valid": SHARE},
    )
    transfer_weight_updates: Optional[int] = field(
        default=None, metadata={"help": "over how many updates λ goes there", "valid": Range(1)}
    )


@dataclass
class MixtureSchedule(FairseqDataclass):
    """The share of the backward KL in ½ forward + ½ backward."""

    mixture_from: Optional[float] = field(
        default=None,
        metadata={
            "help": "the mixture of both KLs alone: the share of the backward one (default: 0.5), "
            "or where its schedule begins",
            "valid": SHARE,
        },
    )
    mixture_schedule: str = field(
        default="constant",
        metadata={
            "help": f"how that share goes from --mixture-from to --mixture-to: "
            f"{', '.join(SHAPES)} (--mixture-from throughout)",
            "valid": tuple(SHAPES),
        },
    )
    mixture_to: Optional[float] = field(
        default=None,
        metadata={"help": "the share at the end of its schedule, and from then on", "valid": SHARE},
    )
    mixture_updates: Optional[int] = field(
        default=None,
        metadata={"help": "over how many updates the share goes there", "valid": Range(1)},
    )


def scheduled(objective: Objective, cfg: Any) -> Callable[[int | None], Objective] | None:
    """From an update's number, the first is 0, to its objective; None where it stays as it is.

    No number at all, as in fairseq-validate, gives what the schedules come to.

    Args:
        objective: with the λ and the divergence that the options name.
        cfg: a criterion's configuration, with a :class:`MixtureSchedule` or without.

    Raises:
        UserError: an option is missing, or does not go with the others.
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
    share = _schedule(cfg, "mixture", 0.5 if start is None else start)
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
    if shape == "constant":
        if end is not None or updates is not None:
            raise UserError(
                f"--{flag}-to and --{flag}-updates need --{flag}-schedule linear or cosine"
            )
        return None
    if end is None or updates is None:
        raise UserError(f"--{flag}-schedule {shape} needs --{flag}-to and --{flag}-updates")
    return Schedule(shape, start, end, updates)
