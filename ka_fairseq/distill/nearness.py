"""How near two translations of a sentence are: what a chooser may measure by."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastchrf import pairwise_chrf
from sacrebleu.metrics import BLEU

Texts = Sequence[Sequence[str]]
Nearness = Callable[[Texts, Texts], list[list[list[float]]]]
"""From the texts of each sentence, and the texts that they are compared with, to their scores.

``scores[sentence][text][other]``; higher is nearer.
"""


def chrf(texts: Texts, others: Texts) -> list[list[list[float]]]:
    """Return sentence chrF (Popović 2015), 0 to 100, as sacrebleu computes chrF2."""
    return pairwise_chrf([list(one) for one in texts], [list(one) for one in others])


def bleu(texts: Texts, others: Texts) -> list[list[list[float]]]:
    """Return sacrebleu's sentence BLEU, 0 to 100.

    The score is over the n-gram orders that a sentence has, with exponential smoothing, as Kim &
    Rush (2016) have it.
    """
    metric = BLEU(effective_order=True)
    return [
        [[metric.sentence_score(one, [other]).score for other in to] for one in of]
        for of, to in zip(texts, others, strict=True)
    ]


METRICS: dict[str, Nearness] = {"chrf": chrf, "bleu": bleu}
"""What ``--metric`` names."""
