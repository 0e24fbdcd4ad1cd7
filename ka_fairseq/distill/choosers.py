"""Which of a teacher's translations of a sentence is trained on: what ``--choose`` names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from ka_fairseq.distill.nearness import Nearness
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.errors import UserError


class Sentence(NamedTuple):
    """What a chooser sees of a sentence: words where it is known how to make words, else subwords.

    Attributes:
        source: the sentence.
        candidates: the teacher's translations with their scores, best first; one or more.
        reference: the reference, or None where there is none.
    """

    source: str
    candidates: Sequence[Candidate]
    reference: str | None


Chooser = Callable[[Sequence[Sentence], Nearness], Sequence[int]]
"""From some thousand sentences, and what ``--metric`` names, to the number of a candidate of each.

Sentences come in thousands so that a chooser with a model of its own can make batches of them.
"""

_CHOOSERS: dict[str, Chooser] = {}


def register_chooser(name: str) -> Callable[[Chooser], Chooser]:
    """Register a chooser.

    ::

        @register_chooser("shortest")
        def shortest(sentences, nearness):
            lengths = ([len(c.text) for c in s.candidates] for s in sentences)
            return [found.index(min(found)) for found in lengths]

    Args:
        name: what ``--choose`` calls it.

    Raises:
        ValueError: another chooser has the name.
    """

    def register(chooser: Chooser) -> Chooser:
        if _CHOOSERS.setdefault(name, chooser) is not chooser:
            raise ValueError(f"there is a chooser {name!r} already: choose another name")
        return chooser

    return register


def chooser_names() -> list[str]:
    """Return the names that are registered now."""
    return list(_CHOOSERS)


def chooser_named(name: str) -> Chooser:
    """Return the chooser of a name.

    Raises:
        UserError: there is none.
    """
    if name not in _CHOOSERS:
        raise UserError(f"--choose {name}: choose from {', '.join(_CHOOSERS)}")
    return _CHOOSERS[name]


@register_chooser("closest")
def closest(sentences: Sequence[Sentence], nearness: Nearness) -> list[int]:
    """Choose the candidate nearest to the reference (Kim & Rush 2016, sequence interpolation).

    Without a reference the teacher's best is chosen.
    """
    others = [[] if one.reference is None else [one.reference] for one in sentences]
    return _nearest(sentences, others, nearness)


@register_chooser("best")
def best(sentences: Sequence[Sentence], nearness: Nearness) -> list[int]:
    """Choose the candidate that the teacher scores best (Kim & Rush 2016, sequence-level KD)."""
    del nearness
    return [0] * len(sentences)


@register_chooser("mbr")
def mbr(sentences: Sequence[Sentence], nearness: Nearness) -> list[int]:
    """Choose the candidate nearest to all candidates: minimum Bayes risk.

    Source: Eikema & Aziz (2022) for samples, Freitag et al. (2022) for the n best.
    """
    return _nearest(sentences, [[c.text for c in one.candidates] for one in sentences], nearness)


def _nearest(
    sentences: Sequence[Sentence], others: Sequence[Sequence[str]], nearness: Nearness
) -> list[int]:
    """Return the candidate with the highest sum of scores; of equal ones the teacher's best."""
    chosen = [0] * len(sentences)
    asked = [n for n, one in enumerate(sentences) if others[n] and len(one.candidates) > 1]
    if asked:
        texts = [[c.text for c in sentences[n].candidates] for n in asked]
        for n, rows in zip(asked, nearness(texts, [others[n] for n in asked]), strict=True):
            sums = [sum(row) for row in rows]
            chosen[n] = sums.index(max(sums))
    return chosen
