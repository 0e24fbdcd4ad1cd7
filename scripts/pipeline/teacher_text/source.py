"""The sentences that a teacher translates: a file of subwords, a sentence a line."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline import files
from pipeline.teacher_text import shards
from pipeline.teacher_text.shards import Shard

Sentences = dict[int, list[str]]
"""Subwords of a sentence by its line, from 0."""


@dataclass(frozen=True)
class Source:
    """One of a pair's source texts.

    Attributes:
        name: ``train``, or ``mono`` for text without references.
        text: the sentences.
        subwords: the same, in subwords with spaces between them.
        folder: of the shards of its translations.
    """

    name: str
    text: Path
    subwords: Path
    folder: Path

    def __len__(self) -> int:
        with self.subwords.open("rb") as file:
            return sum(1 for _ in file)

    def shards(self, size: int) -> list[Shard]:
        """Return all its shards."""
        return shards.divide(self.folder, len(self), size)


def sentences(
    subwords: Path, wanted: Sequence[Shard], max_length: int
) -> Iterator[tuple[Shard, Sentences]]:
    """Yield shards with what is to be translated of each: no sentence that is empty or too long.

    Args:
        subwords: the file.
        wanted: shards in their order.
        max_length: in subwords.
    """
    with subwords.open(encoding="utf-8", newline="\n") as file:
        place = 0
        for shard in wanted:
            lines = itertools.islice(file, shard.first - place, shard.last - place)
            place = shard.last
            numbered = enumerate((line.split() for line in lines), start=shard.first)
            yield shard, {n: words for n, words in numbered if 0 < len(words) <= max_length}


def faults(subwords: Path, dictionary: Path, max_length: int) -> Counter[str]:
    """Count the sentences that are not translated, or that the teacher cannot read all of.

    Args:
        subwords: the file.
        dictionary: fairseq's, of the source.
        max_length: in subwords.
    """
    known = {line.rpartition(" ")[0] for line in files.read_lines(dictionary)}
    found = Counter({"empty": 0, "too long": 0, "with unknown types": 0})
    with subwords.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            words = line.split()
            if not words:
                found["empty"] += 1
            elif len(words) > max_length:
                found["too long"] += 1
            elif not known.issuperset(words):
                found["with unknown types"] += 1
    return found
