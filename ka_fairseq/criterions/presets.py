"""The paper's criterions by their own names: ``--criterion transfer`` with a divergence chosen."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.schedules import MixtureSchedule
from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig

PRESETS = {
    "forward_kl": "knowledge distillation (KD), KL(teacher‖learner)",
    "backward_kl": "knowledge acquisition (KA), KL(learner‖teacher)",
    "jsd_mixture": "½·KA + ½·KD, which the paper calls JSD (half of Jeffreys' divergence)",
}
ORDERS = {"backward": "backward_kl", "forward": "forward_kl", "mixture": "jsd_mixture"}


def _register(name: str, meaning: str) -> type[TransferCriterion]:
    class_name = "".join(part.title() for part in name.split("_")) + "Criterion"
    members = {
        "__module__": __name__,
        "__doc__": f"(1 − λ)·NLL + λ·D with D = {meaning}.",
        "choose_divergence": classmethod(lambda cls, cfg: name),
    }
    criterion = type(class_name, (TransferCriterion,), members)
    config = MixtureConfig if name == "jsd_mixture" else TransferCriterionConfig
    return register_criterion(name, dataclass=config)(criterion)


@dataclass
class MixtureConfig(TransferCriterionConfig, MixtureSchedule):
    """The options of the other criterions, and the share of each KL."""


for _name, _meaning in PRESETS.items():
    _register(_name, _meaning)


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
