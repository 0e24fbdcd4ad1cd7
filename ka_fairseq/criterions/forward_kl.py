"""``--criterion forward_kl``: knowledge distillation (KD), KL(teacher‖learner)."""

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig
from ka_fairseq.divergences import FORWARD_KL, Divergence


@register_criterion("forward_kl", dataclass=TransferCriterionConfig)
class ForwardKLCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·D with D = knowledge distillation (KD), KL(teacher‖learner)."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> Divergence:
        """See :func:`ka_fairseq.divergences.forward_kl`."""
        return FORWARD_KL
