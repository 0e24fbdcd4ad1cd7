"""``--criterion jsd_mixture``: ½·KA + ½·KD, which the paper calls JSD."""

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig
from ka_fairseq.divergences import JSD_MIXTURE, Divergence


@register_criterion("jsd_mixture", dataclass=TransferCriterionConfig)
class JSDMixtureCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·D with D = ½·KA + ½·KD, which the paper calls JSD."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> Divergence:
        """See :func:`ka_fairseq.divergences.jsd_mixture`."""
        return JSD_MIXTURE
