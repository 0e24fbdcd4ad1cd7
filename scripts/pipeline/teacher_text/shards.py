"""Translations on disk: a TSV file for some thousand sentences, each there as a whole or not."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pipeline import files
from pipeline.errors import PipelineError


class Candidate(NamedTuple):
    """A translation of a sentence, without segmentation, and its score (higher is better)."""

    score: float
    text: str


@dataclass(frozen=True)
class Shard:
    """The sentences of a few lines of a text.

    Attributes:
        path: the file; a row for each translation, best first: line (from 1), score, translation.
        first: the first line, from 0.
        last: the one after the last.
    """

    path: Path
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def number(self) -> int:
        """Of the file, from 0."""
        return int(self.path.stem)


def divide(folder: Path, sentences: int, size: int) -> list[Shard]:
    """Return the shards of a text.

    Args:
        folder: where their files are or will be.
        sentences: how many lines the text has.
        size: of a shard.
    """
    starts = range(0, sentences, size)
    return [
        Shard(folder / f"{number:05}.tsv", first, min(first + size, sentences))
        for number, first in enumerate(starts)
    ]


def share(shards: Sequence[Shard], number: int, of: int) -> list[Shard]:
    """Return what one of several workers does: every `of`-th shard; `number` is from 1."""
    return list(shards[number - 1 :: of])


def write(shard: Shard, found: Mapping[int, Sequence[Candidate]]) -> None:
    """Write a shard, whole or not at all.

    Args:
        shard: which.
        found: translations by line, from 0; a line without any is left out.
    """
    files.write_lines(
        shard.path,
        (
            f"{line + 1}\t{candidate.score:.5g}\t{candidate.text}"
            for line in sorted(found)
            for candidate in found[line]
        ),
    )


def read(shard: Shard) -> list[list[Candidate]]:
    """Return the translations of each line of a shard.

    Raises:
        PipelineError: it is no such file.
    """
    found: list[list[Candidate]] = [[] for _ in range(len(shard))]
    for line, candidate in parse(files.read_lines(shard.path), shard.path):
        if not shard.first <= line < shard.last:
            raise PipelineError(f"{shard.path} has line {line + 1}, which is not one of its own")
        found[line - shard.first].append(candidate)
    return found


def parse(lines: Iterable[str], path: Path) -> Iterator[tuple[int, Candidate]]:
    """Yield the line, from 0, and the translation of each row.

    Raises:
        PipelineError: a row is none.
    """
    for number, row in enumerate(lines, start=1):
        line, _, rest = row.partition("\t")
        score, tab, text = rest.partition("\t")
        try:
            if not tab or int(line) < 1:
                raise ValueError
            yield int(line) - 1, Candidate(float(score), text)
        except ValueError:
            raise PipelineError(
                f"{path}, line {number}: give the number of the sentence from 1 up, a score and "
                "the translation, with tabs between them"
            ) from None
