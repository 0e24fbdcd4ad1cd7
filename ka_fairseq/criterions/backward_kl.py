"""``--criterion backward_kl``: knowledge acquisition (KA), KL(learner‖teacher)."""

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig
from ka_fairseq.divergences import BACKWARD_KL, Divergence


@register_criterion("backward_kl", dataclass=TransferCriterionConfig)
class BackwardKLCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·D with D = knowledge acquisition (KA), KL(learner‖teacher)."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> Divergence:
        """See :func:`ka_fairseq.divergences.backward_kl`."""
        return BACKWARD_KL
