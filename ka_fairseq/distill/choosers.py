"""Choosers for ``--choose``: each picks one of the teacher's translations of a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ka_fairseq.distill.nearness import Nearness
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.errors import UserError


class Sentence(NamedTuple):
    """A sentence as a chooser sees it.

    Texts are in words if the options name a way to join subwords (``--remove-bpe``,
    ``--sentencepiece``), else in subwords.

    Attributes:
        source: the source sentence.
        candidates: the teacher's translations with their scores, best first; one or more.
        reference: the reference, or None for monolingual text.
    """

    source: str
    candidates: Sequence[Candidate]
    reference: str | None


Chooser = Callable[[Sequence[Sentence], Nearness], Sequence[int]]
"""A function of sentences and the metric of ``--metric``; returns a candidate's index per sentence.

Each call gets a few thousand sentences, so that a chooser with a model can form batches.
"""

_CHOOSERS: dict[str, Chooser] = {}


def register_chooser(name: str) -> Callable[[Chooser], Chooser]:
    """Register a chooser under a name for ``--choose``.

    ::

        @register_chooser("shortest")
        def shortest(sentences, nearness):
            lengths = ([len(c.text) for c in s.candidates] for s in sentences)
            return [found.index(min(found)) for found in lengths]

    Args:
        name: the chooser's name.

    Raises:
        ValueError: another chooser has the name.
    """

    def register(chooser: Chooser) -> Chooser:
        if _CHOOSERS.setdefault(name, chooser) is not chooser:
            raise ValueError(f"a chooser {name!r} is registered already: choose another name")
        return chooser

    return register


def chooser_names() -> list[str]:
    """Return the names of all registered choosers."""
    return list(_CHOOSERS)


def chooser_named(name: str) -> Chooser:
    """Return the chooser with a name.

    Raises:
        UserError: no chooser has the name.
    """
    if name not in _CHOOSERS:
        raise UserError(f"--choose {name}: choose from {', '.join(_CHOOSERS)}")
    return _CHOOSERS[name]


@register_chooser("closest")
def closest(sentences: Sequence[Sentence], nearness: Nearness) -> list[int]:
    """Choose the candidate most similar to the reference: Kim & Rush 2016, sequence interpolation.

    Without a reference, choose the candidate with the teacher's best score.
    """
    others = [[] if one.reference is None else [one.reference] for one in sentences]
    return _nearest(sentences, others, nearness)


@register_chooser("best")
def best(sentences: Sequence[Sentence], nearness: Nearness) -> list[int]:
    """Choose the candidate with the teacher's best score (Kim & Rush 2016, sequence-level KD)."""
    del nearness
    return [0] * len(sentences)


@register_chooser("mbr")
def mbr(sentences: Sequence[Sentence], nearness: Nearness) -> list[int]:
    """Choose the candidate most similar to all candidates: minimum Bayes risk.

    Sources: Eikema & Aziz (2022) for samples, Freitag et al. (2022) for n-best lists.
    """
    return _nearest(sentences, [[c.text for c in one.candidates] for one in sentences], nearness)


def _nearest(
    sentences: Sequence[Sentence], others: Sequence[Sequence[str]], nearness: Nearness
) -> list[int]:
    """Return for each sentence the candidate with the highest sum of scores against ``others``.

    Among equal sums, the candidate with the teacher's best score is chosen.
    """
    chosen = [0] * len(sentences)
    asked = [n for n, one in enumerate(sentences) if others[n] and len(one.candidates) > 1]
    if asked:
        texts = [[c.text for c in sentences[n].candidates] for n in asked]
        for n, rows in zip(asked, nearness(texts, [others[n] for n in asked]), strict=True):
            sums = [sum(row) for row in rows]
            chosen[n] = sums.index(max(sums))
    return chosen
