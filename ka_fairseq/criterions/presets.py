"""The paper's criterions by their own names: ``--criterion transfer`` with a divergence chosen."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.schedules import MixtureSchedule
from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig

ORDERS = {"backward": "backward_kl", "forward": "forward_kl", "mixture": "jsd_mixture"}


@register_criterion("forward_kl", dataclass=TransferCriterionConfig)
class ForwardKlCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·KL(teacher‖learner): knowledge distillation, KD (Sun & Cross 2020, Eq. 1)."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> str:
        """The forward KL."""
        return "forward_kl"


@register_criterion("backward_kl", dataclass=TransferCriterionConfig)
class BackwardKlCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·KL(learner‖teacher): knowledge acquisition, KA (Sun & Cross 2020, Eq. 3)."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> str:
        """The backward KL."""
        return "backward_kl"


@dataclass
class MixtureConfig(TransferCriterionConfig, MixtureSchedule):
    """The options of the other criterions, and the share of each KL."""


@register_criterion("jsd_mixture", dataclass=MixtureConfig)
class JsdMixtureCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·(½·KD + ½·KA), which the paper calls JSD (half of Jeffreys' divergence)."""

    @classmethod
    def choose_divergence(cls, cfg: MixtureConfig) -> str:
        """The mixture of both KLs."""
        return "jsd_mixture"


@dataclass
class TopKKLConfig(MixtureConfig):
    """The options of the other criterions, another default k, and the order of the KL."""

    # The paper's best k for backward KL (Fig. 4a).
    top_k: int = field(
        default=8,
        metadata={"help": "restrict D to the k best tokens; 0 means the whole vocabulary"},
    )
    order: str = field(
        default="backward",
        metadata={
            "help": f"which KL is restricted: {', '.join(ORDERS)}",
            "valid": tuple(ORDERS),
        },
    )


@register_criterion("topk_kl", dataclass=TopKKLConfig)
class TopKKLCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·D with D a KL over the k best tokens (Sun & Cross 2020, §3.3).

    The k best are the learner's for backward KL and the teacher's for forward KL.
    """

    @classmethod
    def choose_divergence(cls, cfg: TopKKLConfig) -> str:
        """The divergence of ``cfg.order``."""
        return ORDERS[cfg.order]
