"""``--criterion tie_kd``: top-1 information enhanced distillation (Zhang et al., ACL 2023)."""

from dataclasses import dataclass, field

from ka_fairseq.criterions.divergence_options import register_for_any_divergence
from ka_fairseq.criterions.transfer import AnyTransferCriterion, TransferConfig
from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import Divergence, divergence_names
from ka_fairseq.loss.divergences.ranking import WithRanking, check_ranking_k


@dataclass
class TieKDConfig(TransferConfig):
    """The options of the other criterions, and of the ranking loss."""

    divergence: str = field(
        default="forward_kl",
        metadata={
            "help": f"what the ranking loss is added to: {', '.join(divergence_names())}, or one "
            f"that a --user-dir registers with @ka_fairseq.register_divergence"
        },
    )
    ranking_k: int = field(
        default=5,
        metadata={"help": "how many of the teacher's and of the learner's best tokens are ranked"},
    )
    no_ranking: bool = field(
        default=False, metadata={"help": "leave the ranking loss out: the divergence alone"}
    )


@register_for_any_divergence("tie_kd", dataclass=TieKDConfig)
class TieKDCriterion(AnyTransferCriterion):
    """(1 − λ)·NLL + λ·D, D the mean over the passes of forward KL plus the ranking loss.

    The passes are the task's: :mod:`ka_fairseq.tasks.argmax_views`, unless ``--views`` names
    another way.
    """

    default_views = "argmax"

    @classmethod
    def make_divergence(cls, cfg: TieKDConfig, vocabulary: int) -> Divergence:
        """The divergence and the ranking loss.

        Raises:
            UserError: an option does not go with it.
        """
        divergence = super().make_divergence(cfg, vocabulary)
        if cfg.no_ranking:
            return divergence
        if cfg.temperature != 1:
            raise UserError(
                f"--temperature {cfg.temperature} does not go with the ranking loss, which is over "
                f"probabilities as they are: leave it out, or give --no-ranking"
            )
        try:
            check_ranking_k(cfg.ranking_k, vocabulary)
        except ValueError as error:
            raise UserError(f"--ranking-k: {error}") from error
        return WithRanking(divergence, cfg.ranking_k)
