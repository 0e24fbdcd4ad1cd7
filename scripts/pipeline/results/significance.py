"""Which differences in BLEU are more than chance: p-values by sacrebleu, and what an interval is.

`hierarchical` has the intervals.
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
        """From the low to the high end."""
        return self.high - self.low


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
