"""``--criterion topk_kl``: a KL restricted to the k best tokens (Sun & Cross 2020, §3.3)."""

from dataclasses import dataclass, field

from fairseq.criterions import register_criterion

from ka_fairseq.criterions.transfer_criterion import TransferCriterion, TransferCriterionConfig
from ka_fairseq.divergences import BACKWARD_KL, FORWARD_KL, JSD_MIXTURE, Divergence
from ka_fairseq.errors import UserError

ORDERS = {"backward": BACKWARD_KL, "forward": FORWARD_KL, "mixture": JSD_MIXTURE}


@dataclass
class TopKKLConfig(TransferCriterionConfig):
    """The options of the other criterions, another default k, and the order of the KL."""

    # The paper's best k for backward KL (Fig. 4a).
    top_k: int = field(
        default=8,
        metadata={"help": "restrict D to the k best tokens; 0 means the whole vocabulary"},
    )
    order: str = field(
        default="backward",
        metadata={"help": f"which KL is restricted: {', '.join(ORDERS)}"},
    )


@register_criterion("topk_kl", dataclass=TopKKLConfig)
class TopKKLCriterion(TransferCriterion):
    """(1 − λ)·NLL + λ·D with D a KL over the k best tokens.

    The k best are the learner's for backward KL and the teacher's for forward KL.
    """

    @classmethod
    def choose_divergence(cls, cfg: TopKKLConfig) -> Divergence:
        """The divergence of ``cfg.order``.

        Raises:
            UserError: unknown order.
        """
        if cfg.order not in ORDERS:
            raise UserError(f"unknown --order {cfg.order!r}; choose from {', '.join(ORDERS)}")
        return ORDERS[cfg.order]
