"""Choose the decoder's input: the references, or the student's own tokens."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from fairseq.tasks import FairseqTask
from torch import nn

from ka_fairseq.tasks.argmax_views import argmax_views
from ka_fairseq.tasks.on_policy import is_on_policy, log_share, on_policy_views
from ka_fairseq.tasks.views import View


@dataclass(frozen=True)
class DecoderInput:
    """Settings of the decoder's input, from the task's options and the criterion.

    Attributes:
        cfg: the task's options, with the fields of ViewsConfig and OnPolicyConfig.
        default_views: one of :data:`~ka_fairseq.tasks.argmax_views.VIEWS`: the criterion's default
            for ``--views``.
        ignored_prefix: number of first tokens of each reference that the criterion leaves out of
            the loss.
    """

    cfg: Any
    default_views: str = "reference"
    ignored_prefix: int = 0

    @property
    def is_argmax(self) -> bool:
        """Return whether the decoder reads the student's own best tokens in several passes."""
        return (self.cfg.views or self.default_views) == "argmax"

    @property
    def takes_several_passes(self) -> bool:
        """Return whether a training batch may be read more than once."""
        cfg = self.cfg
        keeps_nll = bool(cfg.on_policy_fraction and cfg.on_policy_keep_nll)
        return keeps_nll or (self.is_argmax and cfg.view_passes > 1)

    def views(
        self, task: FairseqTask, sample: Mapping[str, Any], model: nn.Module, update_num: int
    ) -> Iterable[View]:
        """Return the views of a batch; by default one view, the batch as it is.

        Args:
            task: a task with a teacher.
            sample: fairseq's batch.
            model: the student.
            update_num: the update's number.
        """
        cfg = self.cfg
        if cfg.on_policy_fraction and model.training:
            log_share()
            if is_on_policy(cfg, update_num):
                return on_policy_views(task, sample, model, update_num, self.ignored_prefix)
        if self.is_argmax:
            asked = task.asked_teacher(next(model.parameters()).dtype)
            models = (model, *dict.fromkeys([*task.teacher.members, *asked.members]))
            pad = task.target_dictionary.pad()
            return argmax_views(sample, models, cfg.view_passes, pad)
        return (View(sample),)
