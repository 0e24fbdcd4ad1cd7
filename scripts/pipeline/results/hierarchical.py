"""Compute intervals of differences between methods, over seeds and sentences.

A method's score on a test set is the mean over seeds of the metric of the whole test set. Methods a
and b were trained with the same seeds. In seed j they differ by
``δ_j = metric(a, j) - metric(b, j)``. The difference of the methods is the mean ``δ̄`` of all δ_j.
The sentences of the test set are a sample, and so are the seeds. Other samples would give another
``δ̄``. So the bootstrap draws both with replacement, independently of each other:

    δ* = δ̄(I*) + c (δ̄(J*) - δ̄)

- ``I*`` are drawn sentences, as many as the test set has. All methods and seeds share the same
  drawn sentences (Koehn 2004). ``δ̄(I*)`` is the mean over all seeds of the difference on that text.
- ``J*`` are drawn seeds, as many as there are seeds. Both methods share the same drawn seeds.
  ``δ̄(J*)`` is the mean of their δ_j.

The interval goes from the 2.5 % to the 97.5 % percentile of δ*. Owen 2007, "The pigeonhole
bootstrap", also draws rows and columns of a table independently. But Owen computes the difference
of a drawn seed on the drawn sentences. This counts the noise of the sentences within a seed twice.

The factor c corrects for a small number S of seeds. Without c the intervals are too narrow, for two
reasons. First, the variance of a bootstrap over S values is (S - 1) / S of the unbiased variance.
Second, the bootstrap has the quantiles of the normal distribution, but a mean of S values has the
quantiles of Student's t distribution. The correction is (Hesterberg 2015, "What teachers should
know about the bootstrap", on expanded percentile intervals)

    c = √(S / (S - 1)) · t(S - 1) / z

with the 97.5 % quantiles of both distributions. c is 9.2 for two seeds, 2.7 for three, 1.6 for
five, and near 1 for many. With one seed the second term of δ* is missing, and the interval covers
sentences only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import special

from pipeline.results import sufficient_statistics
from pipeline.results.significance import CONFIDENCE, RESAMPLES, SEED, Interval

_ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Differences:
    """The scores of all models on one test set with one metric, and intervals of differences.

    Attributes:
        scores: for each model, the score of each training, in the order of the seeds.
        drawn: for each model, the scores on the resampled texts; shape (trainings, resamples).
    """

    def __init__(
        self,
        counts: Mapping[str, Sequence[np.ndarray]],
        score: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Draw resampled texts, and score all models on these texts.

        Args:
            counts: for each model and training, the numbers that the metric sums over the
                sentences of the test set; shape (sentences, counts). A model has one training
                per seed, or a single training.
            score: a function that returns the metric, of shape (...), from the sums over the
                sentences, of shape (..., counts).
        """
        self.scores: dict[str, np.ndarray] = {}
        self.drawn: dict[str, np.ndarray] = {}
        self._sentences = len(next(iter(counts.values()))[0])
        generator = np.random.default_rng(SEED)
        times = generator.multinomial(
            self._sentences, np.full(self._sentences, 1 / self._sentences), size=RESAMPLES
        ).astype(float)
        for model, of_trainings in counts.items():
            self.scores[model] = np.array([score(c.sum(0)) for c in of_trainings])
            self.drawn[model] = np.stack([score(times @ c) for c in of_trainings])

    @classmethod
    def of_texts(
        cls,
        metric: str,
        translations: Mapping[str, Sequence[Sequence[str]]],
        references: Sequence[str],
    ) -> Differences:
        """Return the differences by a metric of sacrebleu.

        Args:
            metric: one of `sufficient_statistics.METRICS`.
            translations: the translations of the test set, for each model and training.
            references: the references of the test set.
        """
        counts = {
            model: [sufficient_statistics.statistics(metric, text, references) for text in texts]
            for model, texts in translations.items()
        }
        return cls(counts, functools.partial(sufficient_statistics.scores, metric))

    def by_seed(self, model: str, other: str) -> np.ndarray:
        """Return the difference for each seed, ``δ_j``; (1,) if both have a single training."""
        return self.scores[model] - self.scores[other]

    def interval(self, model: str, other: str, *, seeds: bool = True) -> Interval:
        """Return the interval of ``model - other``; see the module's docstring.

        Args:
            model: one of the models.
            other: another model.
            seeds: whether the interval covers seeds and sentences; False covers sentences only.
        """
        if self._sentences < 2:  # one sentence shows no spread: return the whole range
            return Interval(-100.0, 100.0)
        drawn = (self.drawn[model] - self.drawn[other]).mean(axis=0)
        return interval(drawn, self.by_seed(model, other) if seeds else np.zeros(1))


def interval(over_sentences: np.ndarray, by_seed: np.ndarray) -> Interval:
    """Return the interval of a mean difference, over sentences and over seeds.

    Args:
        over_sentences: (resamples,), ``δ̄(I*)`` of the module's formula.
        by_seed: (seeds,), the δ_j; with one seed no seeds are drawn.
    """
    drawn = over_sentences
    if len(by_seed) > 1:
        generator = np.random.default_rng(SEED)
        chosen = generator.integers(len(by_seed), size=(len(drawn), len(by_seed)))
        deviations = by_seed[chosen].mean(axis=1) - by_seed.mean()
        drawn = drawn + small_sample_factor(len(by_seed)) * deviations
    return Interval(*(float(end) for end in np.quantile(drawn, _ENDS)))


def small_sample_factor(seeds: int) -> float:
    """Return c of the module's formula; `seeds` is 2 or more."""
    student, normal = special.stdtrit(seeds - 1, _ENDS[1]), special.ndtri(_ENDS[1])
    return float(np.sqrt(seeds / (seeds - 1)) * student / normal)
