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

# A key in a checkpoint's extra_state, which fairseq gives to all workers of a resumed training.
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
        # For this package's tasks only; other tasks build their state again at the start.
        if getattr(self.task, "resumes_state", False) and state["task_state"]:
            # These are the same tensors, so the file holds them once.
            state["extra_state"][TASK_STATE] = state["task_state"]
        return state

    with_task_state.resumes_exactly = True
    return with_task_state


def _without_next_epoch(epoch_itr: Any) -> Any:
    """Return a copy of an iterator that has no epoch left.

    fairseq trains ``while epoch_itr.next_epoch_idx <= max_epoch``. max_epoch may be infinity, so
    the copy's index is NaN. The original stays unchanged, because the task returns it again.
    """
    kind = type(epoch_itr)
    ended = copy.copy(epoch_itr)
    ended.__class__ = type(kind.__name__, (kind,), {"next_epoch_idx": math.nan})
    return ended


def _stops_after_max_update(load_checkpoint: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(load_checkpoint)
    def without_more_updates(cfg: Any, trainer: Any, **kwargs: Any) -> Any:
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

    without_more_updates.resumes_exactly = True
    return without_more_updates


def resume_exactly() -> None:
    """Make a resumed run give the same result and the same log as an uninterrupted run.

    Without the patch,

    - fairseq loses the losses since the last log line when it resumes from a checkpoint at the end
      of an epoch. The next log line is then a mean over fewer updates;
    - a training that has made its last update makes one more update at each restart;
    - fairseq restores the state of this package's tasks only for decoding.
    """
    if not hasattr(Trainer.state_dict, "resumes_exactly"):
        Trainer.state_dict = _keeps_task_state(Trainer.state_dict)
    if not hasattr(Trainer.load_checkpoint, "resumes_exactly"):
        Trainer.load_checkpoint = _keeps_inner_meters(Trainer.load_checkpoint)
    if not hasattr(checkpoint_utils.load_checkpoint, "resumes_exactly"):
        checkpoint_utils.load_checkpoint = _stops_after_max_update(checkpoint_utils.load_checkpoint)
