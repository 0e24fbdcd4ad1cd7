"""What a metric adds up over sentences, by sacrebleu: resampled texts scored without the text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

METRICS = ("bleu", "chrf")


def metric(name: str) -> BLEU | CHRF:
    """Return one of `METRICS` with sacrebleu's defaults, which the scores of tables have too."""
    return {"bleu": BLEU, "chrf": CHRF}[name]()


def statistics(name: str, translations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return sacrebleu's sufficient statistics of each sentence.

    Args:
        name: one of `METRICS`.
        translations: of the test set.
        references: one each.

    Returns:
        Of shape (sentences, counts): n-grams that match, n-grams and lengths; their sum over any
        sentences, with repetitions or without, is what the metric of a text of these follows from.
    """
    scorer = metric(name)
    scorer._force = True  # no word on tokenized text: `evaluate` had sacrebleu say it
    found = scorer._extract_corpus_statistics(translations, [references])
    return np.array(found, dtype=float)


def scores(name: str, sums: np.ndarray) -> np.ndarray:
    """Return the metric of each text.

    Args:
        name: one of `METRICS`.
        sums: (..., counts), of `statistics`, summed over each text's sentences.

    Returns:
        Of shape (...), from 0 to 100.
    """
    scorer = metric(name)

    def score(counts: np.ndarray) -> float:
        return scorer._compute_score_from_stats(counts.astype(int).tolist()).score

    return np.apply_along_axis(score, -1, sums)
