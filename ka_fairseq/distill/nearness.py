"""Measures of the similarity of two translations, for the choosers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastchrf import pairwise_chrf
from sacrebleu.metrics import BLEU

Texts = Sequence[Sequence[str]]
Nearness = Callable[[Texts, Texts], list[list[list[float]]]]
"""A function that compares texts of a sentence with other texts of the same sentence.

The arguments are the texts and the other texts of each sentence. The result is
``scores[sentence][text][other]``; a higher score means more similar texts.
"""


def chrf(texts: Texts, others: Texts) -> list[list[list[float]]]:
    """Return sentence chrF (Popović 2015), 0 to 100, as sacrebleu computes chrF2."""
    return pairwise_chrf([list(one) for one in texts], [list(one) for one in others])


def bleu(texts: Texts, others: Texts) -> list[list[list[float]]]:
    """Return sacrebleu's sentence BLEU, 0 to 100.

    The score uses the n-gram orders that occur in a sentence, with exponential smoothing, as in
    Kim & Rush (2016).
    """
    metric = BLEU(effective_order=True)
    return [
        [[metric.sentence_score(one, [other]).score for other in to] for one in of]
        for of, to in zip(texts, others, strict=True)
    ]


METRICS: dict[str, Nearness] = {"chrf": chrf, "bleu": bleu}
"""The measures by their names for ``--metric``."""
