"""Compute sacrebleu's p-values of differences in BLEU, and define an interval.

`hierarchical` computes the intervals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU
from sacrebleu.significance import PairedTest

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
        """The distance from the low to the high end."""
        return self.high - self.low


def p_values(
    translations: Translations, baseline: str, references: Sequence[str]
) -> dict[str, float]:
    """Return the two-sided p-value of each other model's BLEU against `baseline`, by sacrebleu.

    The test is sacrebleu's approximate randomization (``--paired-ar``), not its bootstrap. The
    bootstrap's p-value comes out one-sided, half as large. With it, differences would count as
    significant although their interval holds zero.

    Args:
        translations: each model's translations of the test set.
        baseline: one of the models.
        references: the references of the test set.
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
    # sacrebleu counts trials that differ by *more* than the observed difference. For identical
    # translations no trial does, and sacrebleu's p would say that the two models differ.
    same = [model for model in others if translations[model] == translations[baseline]]
    return {**found, **dict.fromkeys(same, 1.0)}
