"""Which differences in BLEU are more than chance: 95 % intervals and p-values, by libraries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest
from scipy import stats

from pipeline.results import sufficient_statistics

CONFIDENCE = 0.95
RESAMPLES = 2000
TRIALS = 2000
SEED = 12345  # sacrebleu's own

Translations = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a difference in BLEU."""

    low: float
    high: float

    @property
    def width(self) -> float:
        """From the low to the high end."""
        return self.high - self.low


def intervals(
    translations: Translations, references: Sequence[str]
) -> dict[tuple[str, str], Interval]:
    """Return the interval of each difference between two models, by paired bootstrap.

    scipy draws test sentences with replacement, the same ones for all models, and takes the
    percentiles of the differences (Koehn 2004, "Statistical significance tests for machine
    translation evaluation"). sacrebleu counts and scores; its own bootstrap gives the interval of
    each score, but not that of a difference.

    Args:
        translations: each model's translations of the test set.
        references: the test set's translations.

    Returns:
        The interval of ``BLEU(a) - BLEU(b)`` by ``(a, b)``, for each two models and both ways.
    """
    models = list(translations)
    pairs = [(a, b) for a in models for b in models if a != b]
    if len(references) < 2:  # one sentence: there is nothing to draw from, it may be any of them
        return dict.fromkeys(pairs, Interval(-100.0, 100.0))
    counts = np.stack(
        [
            sufficient_statistics.statistics("bleu", translations[model], references)
            for model in models
        ]
    )

    def differences(drawn: np.ndarray, axis: int) -> np.ndarray:
        """(resamples, sentences) → (models, models, resamples)"""
        times = np.stack([np.bincount(sample, minlength=len(references)) for sample in drawn])
        scores = sufficient_statistics.scores("bleu", times.astype(float) @ counts)
        return scores[:, None] - scores[None, :]

    found = stats.bootstrap(
        (np.arange(len(references)),),
        differences,
        n_resamples=RESAMPLES,
        batch=500,  # of resamples at once: bounds the memory
        vectorized=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        random_state=np.random.default_rng(SEED),
    ).confidence_interval
    place = {model: index for index, model in enumerate(models)}
    return {
        (a, b): Interval(*(float(end[place[a], place[b]]) for end in (found.low, found.high)))
        for a, b in pairs
    }


def p_values(
    translations: Translations, baseline: str, references: Sequence[str]
) -> dict[str, float]:
    """Return each other model's two-sided p-value against `baseline`, BLEU, by sacrebleu.

    It is sacrebleu's approximate randomization (``--paired-ar``), not its bootstrap: the p-value
    of the latter comes out as one-sided, half as large, and would call differences significant
    whose interval holds zero.

    Args:
        translations: each model's translations of the test set.
        baseline: one of the models.
        references: the test set's translations.
    """
    others = [model for model in translations if model != baseline]
    if not others:
        return {}
    test = PairedTest(
        [(model, translations[model]) for model in (baseline, *others)],
        {"BLEU": BLEU(references=[references])},
        references=None,
        test_type="ar",
        n_samples=TRIALS,
    )
    _, results = test()
    found = dict(zip(others, (float(r.p_value) for r in results["BLEU"][1:]), strict=True))
    # sacrebleu counts trials that differ by *more* than what was observed: with the very same
    # translations that is none, and p comes out as if the two differed for certain.
    same = [model for model in others if translations[model] == translations[baseline]]
    return {**found, **dict.fromkeys(same, 1.0)}
