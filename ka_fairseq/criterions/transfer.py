"""``--criterion transfer --divergence NAME``: any divergence that is registered."""

from dataclasses import dataclass, field

from ka_fairseq.criterions.divergence_options import register_for_any_divergence
from ka_fairseq.criterions.schedules import MixtureSchedule
from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig
from ka_fairseq.loss.divergences import divergence_names


@dataclass
class TransferConfig(TransferCriterionConfig, MixtureSchedule):
    """The options of the other criterions, and the divergence."""

    divergence: str = field(
        default="backward_kl",
        metadata={
            "help": f"D: {', '.join(divergence_names())} (jsd_mixture is half of Jeffreys' "
            f"divergence; Jensen–Shannon's is js), or one that a --user-dir registers with "
            f"@ka_fairseq.register_divergence"
        },
    )


@register_for_any_divergence("transfer", dataclass=TransferConfig)
class AnyTransferCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·D with the D that ``--divergence`` names."""

    @classmethod
    def choose_divergence(cls, cfg: TransferConfig) -> str:
        """What was asked for."""
        return cfg.divergence
