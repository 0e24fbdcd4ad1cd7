"""Which of a teacher's translations of a sentence is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from fastchrf import pairwise_chrf
from sacrebleu.metrics import BLEU

from pipeline.teacher_text.shards import Candidate

Candidates = Sequence[Sequence[Candidate]]
Chosen = list[str | None]


def best(candidates: Candidates, references: Sequence[str] | None) -> Chosen:
    """Return the translations that the teacher scores best (Kim & Rush 2016, seq-KD).

    Args:
        candidates: the translations of each sentence, best first.
        references: not looked at.

    Returns:
        A translation of each sentence, None for one that has none.
    """
    del references
    return [found[0].text if found else None for found in candidates]


def nearest_to_reference(candidates: Candidates, references: Sequence[str] | None) -> Chosen:
    """Return those nearest to the references by sentence chrF (Kim & Rush 2016, seq-Inter).

    Args:
        candidates: as for `best`.
        references: of each sentence; None for monolingual text, for which `best` chooses.
    """
    if references is None:
        return best(candidates, None)
    return _nearest(candidates, [[reference] for reference in references])


def nearest_by_bleu(candidates: Candidates, references: Sequence[str] | None) -> Chosen:
    """As `nearest_to_reference`, by sacrebleu's sentence BLEU, as Kim & Rush have it.

    Over the n-gram orders that the sentence has, with exponential smoothing.
    """
    if references is None:
        return best(candidates, None)
    metric = BLEU(effective_order=True)
    chosen: Chosen = []
    for found, reference in zip(candidates, references, strict=True):
        scores = [metric.sentence_score(one.text, [reference]).score for one in found]
        chosen.append(found[scores.index(max(scores))].text if found else None)
    return chosen


def minimum_bayes_risk(candidates: Candidates, references: Sequence[str] | None) -> Chosen:
    """Return those nearest to all the others by sentence chrF (Freitag et al. 2022, MBR)."""
    del references
    return _nearest(candidates, [[other.text for other in found] for found in candidates])


Selection = Callable[[Candidates, Sequence[str] | None], Chosen]

SELECTIONS: dict[str, Selection] = {
    "best": best,
    "reference": nearest_to_reference,
    "mbr": minimum_bayes_risk,
    "mbr_samples": minimum_bayes_risk,  # of others: samples, not the n best
}


def selection(kind: str, nearness: str) -> Selection:
    """Return what chooses.

    Args:
        kind: of `SELECTIONS`.
        nearness: of `recipe.NEARNESS`.
    """
    return nearest_by_bleu if (kind, nearness) == ("reference", "bleu") else SELECTIONS[kind]


def _nearest(candidates: Candidates, to: Sequence[Sequence[str]]) -> Chosen:
    """Return the translation with the highest mean chrF; of several, the teacher's best."""
    there = [n for n, found in enumerate(candidates) if found]
    hypotheses = [[candidate.text for candidate in candidates[n]] for n in there]
    scores = pairwise_chrf(hypotheses, [list(to[n]) for n in there]) if there else []
    chosen: Chosen = [None] * len(candidates)
    for n, texts, rows in zip(there, hypotheses, scores, strict=True):
        means = [sum(row) for row in rows]
        chosen[n] = texts[means.index(max(means))]
    return chosen
