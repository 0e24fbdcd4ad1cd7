"""A resumed run gives the same result as an uninterrupted one."""

from __future__ import annotations

import copy
import functools
import logging
import math
from collections.abc import Callable
from typing import Any

from fairseq import checkpoint_utils
from fairseq.logging import metrics
from fairseq.trainer import Trainer

logger = logging.getLogger(__name__)

# In a checkpoint's extra_state, which is what all workers are given when a training resumes.
TASK_STATE = "task_state"


def _keeps_inner_meters(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load_checkpoint)
    def with_inner_meters(
        self: Trainer, *args: Any, reset_meters: bool = False, **kwargs: Any
    ) -> Any:
        extra_state = load_checkpoint(self, *args, reset_meters=reset_meters, **kwargs)
        if extra_state and not reset_meters:
            kept = extra_state.get("metrics", {})
            metrics.load_state_dict({name: kept[name] for name in ("train_inner",) if name in kept})
            if TASK_STATE in extra_state:
                self.task.load_state_dict(extra_state[TASK_STATE])
        return extra_state

    with_inner_meters.resumes_exactly = True
    return with_inner_meters


def _keeps_task_state(state_dict: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(state_dict)
    def with_task_state(self: Trainer) -> dict[str, Any]:
        state = state_dict(self)
        # Of this package's tasks alone: what others keep there, they make anew when they start.
        if getattr(self.task, "resumes_state", False) and state["task_state"]:
            # The same tensors: the file holds them once.
            state["extra_state"][TASK_STATE] = state["task_state"]
        return state

    with_task_state.resumes_exactly = True
    return with_task_state


def _without_next_epoch(epoch_itr: Any) -> Any:
    """The same iterator, for which no epoch is left.

    fairseq trains ``while epoch_itr.next_epoch_idx <= max_epoch``, where max_epoch may be infinity;
    only NaN is beyond that. A copy, as the task hands out the iterator itself again.
    """
    kind = type(epoch_itr)
    ended = copy.copy(epoch_itr)
    ended.__class__ = type(kind.__name__, (kind,), {"next_epoch_idx": math.nan})
    return ended


def _ends_where_it_ended(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load_checkpoint)
    def unless_at_end(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
        loaded = load_checkpoint(cfg, trainer, **kwargs)
        if not isinstance(trainer, Trainer):
            return loaded
        updates = trainer.get_num_updates()
        if not 0 < trainer.cfg.optimization.max_update <= updates:
            return loaded
        logger.info(
            f"this training has made {updates} updates of {trainer.cfg.optimization.max_update}"
            f" (--max-update): nothing is left to do"
        )
        extra_state, epoch_itr = loaded
        return extra_state, _without_next_epoch(epoch_itr)

    unless_at_end.resumes_exactly = True
    return unless_at_end


def resume_exactly() -> None:
    """Make a training that was cut off and started again log and learn what it would have.

    After a checkpoint at the end of an epoch fairseq forgets the losses since the last line of the
    log, so that the next line is a mean over fewer updates; a training that had made its last
    update makes one more each time that it is started again; and what a task of this package
    keeps between updates would be read for decoding alone.
    """
    if not hasattr(Trainer.state_dict, "resumes_exactly"):
        Trainer.state_dict = _keeps_task_state(Trainer.state_dict)
    if not hasattr(Trainer.load_checkpoint, "resumes_exactly"):
        Trainer.load_checkpoint = _keeps_inner_meters(Trainer.load_checkpoint)
    if not hasattr(checkpoint_utils.load_checkpoint, "resumes_exactly"):
        checkpoint_utils.load_checkpoint = _ends_where_it_ended(checkpoint_utils.load_checkpoint)
