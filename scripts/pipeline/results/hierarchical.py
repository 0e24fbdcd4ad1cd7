"""Differences between methods trained with several seeds: intervals over seeds and sentences.

A method's score on a test set is the mean over its seeds of the metric of the whole test set. Two
methods a and b that were trained with the same seeds differ, in seed j, by
``δ_j = metric(a, j) - metric(b, j)``, and altogether by the mean ``δ̄`` of these. Both the sentences
of the test set and the seeds are samples, and others would give another ``δ̄``. So both are drawn
with replacement, independently of each other:

    δ* = δ̄(I*) + c (δ̄(J*) - δ̄)

``I*`` are as many sentences as the test set has, the same ones for all methods and seeds (Koehn
2004), and ``δ̄(I*)`` is the mean over all seeds of the differences in the metric of that text.
``J*`` are as many seeds as there are, the same ones for both methods, and ``δ̄(J*)`` is the mean of
their δ_j. The interval is from the 2.5 % to the 97.5 % percentile of δ*. Rows and columns of a
table are drawn so in Owen 2007, "The pigeonhole bootstrap", but there a drawn seed's difference is
that on the drawn sentences, which counts the noise of sentences within a seed once more.

The factor c is for the small number S of seeds. A bootstrap over S values has a variance that is
(S - 1) / S of the unbiased one, and the normal distribution's quantiles where a mean of S values
has Student's. Both make intervals too narrow, by (Hesterberg 2015, "What teachers should know
about the bootstrap", on expanded percentile intervals)

    c = √(S / (S - 1)) · t(S - 1) / z

with the 97.5 % quantiles of both distributions: 9.2 for two seeds, 2.7 for three, 1.6 for five, and
1 for many. With one seed there is no second term: the interval is over sentences alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from pipeline.results import sufficient_statistics
from pipeline.results.significance import CONFIDENCE, RESAMPLES, SEED, Interval

_ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Differences:
    """Scores of all models on one test set by one metric, and the intervals of their differences.

    Attributes:
        scores: of each model, one for each of its trainings; in the order of the seeds.
        drawn: of each model, (trainings, resamples): the same of the texts that were drawn.
    """

    def __init__(
        self,
        counts: Mapping[str, Sequence[np.ndarray]],
        score: Callable[[np.ndarray], np.ndarray],
    ) -> None:
        """Draw, and score what was drawn.

        Args:
            counts: of each model, for each of its trainings, (sentences, counts): what a metric
                adds up over the sentences of the test set. Models have as many trainings as there
                are seeds, or a single one.
            score: returns the metric, (...), of sums (..., counts) over sentences.
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
        """Return those by a metric of sacrebleu's.

        Args:
            metric: one of `sufficient_statistics.METRICS`.
            translations: of each model, for each of its trainings, of the test set.
            references: the test set's translations.
        """
        counts = {
            model: [sufficient_statistics.statistics(metric, text, references) for text in texts]
            for model, texts in translations.items()
        }
        return cls(counts, functools.partial(sufficient_statistics.scores, metric))

    def by_seed(self, model: str, other: str) -> np.ndarray:
        """Return the difference in each seed, ``δ_j``; (1,) where both have a single training."""
        return self.scores[model] - self.scores[other]

    def interval(self, model: str, other: str, *, seeds: bool = True) -> Interval:
        """Return the interval of ``model - other``, as this module explains it.

        Args:
            model: one of the models.
            other: another.
            seeds: whether the next seeds are to be covered too, or only the next sentences.
        """
        if self._sentences < 2:  # there is nothing to draw from: it may be any of them
            return Interval(-100.0, 100.0)
        drawn = (self.drawn[model] - self.drawn[other]).mean(axis=0)
        return interval(drawn, self.by_seed(model, other) if seeds else np.zeros(1))


def interval(over_sentences: np.ndarray, by_seed: np.ndarray) -> Interval:
    """Return the interval of a mean difference, from both ways in which it may vary.

    Args:
        over_sentences: (resamples,), ``δ̄(I*)`` of the module's formula.
        by_seed: (seeds,), the δ_j; of one seed nothing is drawn.
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
    student, normal = stats.t.ppf(_ENDS[1], seeds - 1), stats.norm.ppf(_ENDS[1])
    return float(np.sqrt(seeds / (seeds - 1)) * student / normal)
