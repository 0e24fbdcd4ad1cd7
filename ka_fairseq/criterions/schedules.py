"""Schedules of λ, and of the mixture of both KLs, over the updates of a training run."""

# fairseq builds command-line options only from types that are written as Optional[...].
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

# The range of λ, and of one KL's share in the mixture of both.
SHARE = Range(0, 1)


@dataclass
class TransferWeightSchedule(FairseqDataclass):
    """Options for a schedule of λ that starts at ``transfer_weight``."""

    transfer_weight_schedule: str = field(
        default="constant",
        metadata={
            "help": f"schedule of λ from --transfer-weight to --transfer-weight-to: "
            f"{', '.join(SHAPES)}; constant keeps --transfer-weight throughout",
            "valid": tuple(SHAPES),
        },
    )
    transfer_weight_to: Optional[float] = field(
        default=None,
        metadata={"help": "λ at the end of the schedule and afterwards", "valid": SHARE},
    )
    transfer_weight_updates: Optional[int] = field(
        default=None, metadata={"help": "number of updates in the schedule of λ", "valid": Range(1)}
    )


@dataclass
class MixtureSchedule(FairseqDataclass):
    """Options for the backward KL's share in the mixture of both KLs, and for its schedule."""

    mixture_from: Optional[float] = field(
        default=None,
        metadata={
            "help": "share of the backward KL (default: 0.5), at the start if the share has a "
            "schedule; only for the mixture of both KLs",
            "valid": SHARE,
        },
    )
    mixture_schedule: str = field(
        default="constant",
        metadata={
            "help": f"schedule of the backward KL's share from --mixture-from to --mixture-to: "
            f"{', '.join(SHAPES)}; constant keeps --mixture-from throughout",
            "valid": tuple(SHAPES),
        },
    )
    mixture_to: Optional[float] = field(
        default=None,
        metadata={
            "help": "share of the backward KL at the end of the schedule and afterwards",
            "valid": SHARE,
        },
    )
    mixture_updates: Optional[int] = field(
        default=None,
        metadata={"help": "number of updates in the schedule of the share", "valid": Range(1)},
    )


def scheduled(objective: Objective, cfg: Any) -> Callable[[int | None], Objective] | None:
    """Return a function from an update's number to its objective; None if there is no schedule.

    The first update has the number 0. For None instead of a number, as in fairseq-validate, the
    function returns the objective at the end of the schedules.

    Args:
        objective: has the λ and the divergence that the options name.
        cfg: a criterion's configuration; the fields of :class:`MixtureSchedule` may be missing.

    Raises:
        UserError: an option is missing, or contradicts another option.
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
    """Return the schedule of the backward KL's share; None unless one of its options was given."""
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
