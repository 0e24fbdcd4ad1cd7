"""``--criterion transfer --divergence NAME``: the criterion for any registered divergence."""

from dataclasses import dataclass, field

from ka_fairseq.criterions.divergence_options import register_for_any_divergence
from ka_fairseq.criterions.schedules import MixtureSchedule
from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig
from ka_fairseq.loss.divergences import divergence_names


@dataclass
class TransferConfig(TransferCriterionConfig, MixtureSchedule):
    """The options of all distillation criterions, and the divergence."""

    divergence: str = field(
        default="backward_kl",
        metadata={
            "help": f"D: {', '.join(divergence_names())} (jsd_mixture is half of Jeffreys' "
            f"divergence; js is the Jensen–Shannon divergence), or a name that a --user-dir "
            f"registers with @ka_fairseq.register_divergence"
        },
    )


@register_for_any_divergence("transfer", dataclass=TransferConfig)
class AnyTransferCriterion(TransferCriterion):
    """Distillation with any divergence: (1 − λ)·NLL + λ·D, where ``--divergence`` names D."""

    @classmethod
    def choose_divergence(cls, cfg: TransferConfig) -> str:
        """Return the value of ``--divergence``."""
        return cfg.divergence
