"""The paper's criterions under their own names, each with a fixed divergence."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.schedules import MixtureSchedule
from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig

ORDERS = {"backward": "backward_kl", "forward": "forward_kl", "mixture": "jsd_mixture"}


@register_criterion("forward_kl", dataclass=TransferCriterionConfig)
class ForwardKlCriterion(TransferCriterion):
    """Knowledge distillation, KD: (1 − λ)·NLL + λ·KL(teacher‖student) (Sun & Cross 2020, Eq. 1)."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> str:
        """Return ``forward_kl``."""
        return "forward_kl"


@register_criterion("backward_kl", dataclass=TransferCriterionConfig)
class BackwardKlCriterion(TransferCriterion):
    """Knowledge acquisition, KA: (1 − λ)·NLL + λ·KL(student‖teacher) (Sun & Cross 2020, Eq. 3)."""

    @classmethod
    def choose_divergence(cls, cfg: TransferCriterionConfig) -> str:
        """Return ``backward_kl``."""
        return "backward_kl"


@dataclass
class MixtureConfig(TransferCriterionConfig, MixtureSchedule):
    """The options of all distillation criterions, and the share of each KL."""


@register_criterion("jsd_mixture", dataclass=MixtureConfig)
class JsdMixtureCriterion(TransferCriterion):
    """The mixture of both KLs: (1 − λ)·NLL + λ·(½·KD + ½·KA).

    The paper calls this mixture JSD. The mixture is half of Jeffreys' divergence.
    """

    @classmethod
    def choose_divergence(cls, cfg: MixtureConfig) -> str:
        """Return ``jsd_mixture``."""
        return "jsd_mixture"


@dataclass
class TopKKLConfig(MixtureConfig):
    """The options of ``jsd_mixture`` with another default for k, and the order of the KL."""

    # The paper's best k for backward KL (Fig. 4a).
    top_k: int = field(
        default=8,
        metadata={"help": "restrict D to the k best tokens; 0 means the whole vocabulary"},
    )
    order: str = field(
        default="backward",
        metadata={
            "help": f"which KL is restricted to the k best tokens: {', '.join(ORDERS)}",
            "valid": tuple(ORDERS),
        },
    )


@register_criterion("topk_kl", dataclass=TopKKLConfig)
class TopKKLCriterion(TransferCriterion):
    """A KL over the k best tokens: (1 − λ)·NLL + λ·D (Sun & Cross 2020, §3.3).

    Backward KL takes the student's k best tokens, forward KL the teacher's.
    """

    @classmethod
    def choose_divergence(cls, cfg: TopKKLConfig) -> str:
        """Return the name of the divergence that ``cfg.order`` chooses."""
        return ORDERS[cfg.order]
