"""``--criterion tie_kd``: top-1 information enhanced distillation (Zhang et al., ACL 2023)."""

from dataclasses import dataclass, field

from ka_fairseq.criterions.divergence_options import register_for_any_divergence
from ka_fairseq.criterions.transfer import AnyTransferCriterion, TransferConfig
from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import Divergence, divergence_names
from ka_fairseq.loss.divergences.ranking import WithRanking, check_ranking_k


@dataclass
class TieKDConfig(TransferConfig):
    """The options of ``transfer``, and of the ranking loss."""

    divergence: str = field(
        default="forward_kl",
        metadata={
            "help": f"divergence beside the ranking loss: {', '.join(divergence_names())}, or a "
            f"name that a --user-dir registers with @ka_fairseq.register_divergence"
        },
    )
    ranking_k: int = field(
        default=5,
        metadata={"help": "number of best tokens of each model in the ranking loss"},
    )
    no_ranking: bool = field(
        default=False, metadata={"help": "leave out the ranking loss, keep the divergence alone"}
    )


@register_for_any_divergence("tie_kd", dataclass=TieKDConfig)
class TieKDCriterion(AnyTransferCriterion):
    """TIE-KD: (1 − λ)·NLL + λ·D, where D is a mean over decoder passes.

    In each pass, D is a divergence (by default forward KL) plus the ranking loss. The task makes
    the passes: see :mod:`ka_fairseq.tasks.argmax_views`. ``--views`` can choose other input.
    """

    default_views = "argmax"

    @classmethod
    def make_divergence(cls, cfg: TieKDConfig, vocabulary: int) -> Divergence:
        """Return the sum of the divergence and the ranking loss.

        Raises:
            UserError: an option does not go with the ranking loss.
        """
        divergence = super().make_divergence(cfg, vocabulary)
        if cfg.no_ranking:
            return divergence
        if cfg.temperature != 1:
            raise UserError(
                f"--temperature {cfg.temperature} does not go with the ranking loss, which needs "
                f"temperature 1: leave out --temperature, or give --no-ranking"
            )
        try:
            check_ranking_k(cfg.ranking_k, vocabulary)
        except ValueError as error:
            raise UserError(f"--ranking-k: {error}") from error
        return WithRanking(divergence, cfg.ranking_k)
