"""Collect the test sentences for the page: every model's translation with its chrF."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sacrebleu.metrics import CHRF

from pipeline.engine import files
from pipeline.models.settings import Pair
from pipeline.results import evaluate

MOST = 3000
"""The most sentences that the page holds; a longer test set is sampled at equal distances."""

COMPARED = ("ka", "kd")
"""The two models that the page shows first, if both were evaluated."""

SHOWN = 5
"""The number of gains and of losses of these two models that the page shows without JavaScript."""


def collect(pair: Pair, most: int = MOST) -> dict[str, Any] | None:
    """Return the data with which the page compares any two models sentence by sentence.

    Args:
        pair: the pair of the runs.
        most: the most sentences to take.

    Returns:
        ``titles`` of the models, ``compared``, ``languages``, ``all`` and ``sentences``.
        ``compared`` has the indices of the two models that are shown first. ``all`` is the number
        of sentences in the test set. Each sentence has its ``number`` in the test set, ``source``,
        ``reference``, and by model ``texts`` and ``chrf``. None if fewer than two models were
        evaluated.
    """
    models = [name for name in pair.titles if evaluate.scores(pair, name)]
    if len(models) < 2:
        return None
    sources, references = files.read_lines(pair.source), evaluate.references(pair)
    translations = [evaluate.hypotheses(pair, name) for name in models]
    metric = CHRF()

    def sentence(index: int) -> dict[str, Any]:
        texts = [lines[index] for lines in translations]
        scores = [metric.sentence_score(text, [references[index]]).score for text in texts]
        return {
            "number": index + 1,
            "source": sources[index],
            "reference": references[index],
            "texts": texts,
            "chrf": [round(score, 2) for score in scores],
        }

    count = min(most, len(references))
    return {
        "titles": [pair.titles[name] for name in models],
        "compared": _compared(models),
        "languages": list(pair.languages),
        "all": len(references),
        "sentences": [sentence(n * len(references) // count) for n in range(count)],
    }


def extremes(found: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the largest ``gains`` and ``losses`` of the first compared model over the second.

    Args:
        found: the result of `collect`.

    Returns:
        At most `SHOWN` sentences each, the largest first, with their ``difference`` in chrF.
    """
    model, other = found["compared"]
    differing = [
        {**sentence, "difference": sentence["chrf"][model] - sentence["chrf"][other]}
        for sentence in found["sentences"]
    ]
    ordered = sorted(differing, key=lambda sentence: sentence["difference"])
    return {
        "gains": [row for row in reversed(ordered[-SHOWN:]) if row["difference"] > 0],
        "losses": [row for row in ordered[:SHOWN] if row["difference"] < 0],
    }


def _compared(models: Sequence[str]) -> list[int]:
    """Return the indices of the two models to show first; by default the last two models."""
    names = COMPARED if set(COMPARED) <= set(models) else (models[-1], models[-2])
    return [models.index(name) for name in names]
