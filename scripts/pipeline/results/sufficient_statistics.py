"""Compute counts for each sentence; sacrebleu's metrics score a resampled text from their sums."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sacrebleu.metrics import BLEU, CHRF

METRICS = ("bleu", "chrf")


def metric(name: str) -> BLEU | CHRF:
    """Return one of `METRICS` with sacrebleu's defaults, as for the scores in tables."""
    return {"bleu": BLEU, "chrf": CHRF}[name]()


def statistics(name: str, translations: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Return sacrebleu's sufficient statistics of each sentence.

    Args:
        name: one of `METRICS`.
        translations: of the test set.
        references: one for each translation.

    Returns:
        (sentences, counts): matching n-grams, n-grams and lengths. The metric of a text follows
        from their sum over the text's sentences; sentences may repeat.
    """
    scorer = metric(name)
    scorer._force = True  # no second warning of tokenized text: `evaluate` has given it
    found = scorer._extract_corpus_statistics(translations, [references])
    return np.array(found, dtype=float)


def scores(name: str, sums: np.ndarray) -> np.ndarray:
    """Return the metric of each text.

    Args:
        name: one of `METRICS`.
        sums: (..., counts), `statistics` summed over each text's sentences.

    Returns:
        (...), from 0 to 100.
    """
    scorer = metric(name)

    def score(counts: np.ndarray) -> float:
        return scorer._compute_score_from_stats(counts.astype(int).tolist()).score

    return np.apply_along_axis(score, -1, sums)
