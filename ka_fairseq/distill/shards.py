"""Read and write translations on disk: TSV files, each for a few thousand sentences.

Each file is written completely or not at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ka_fairseq.errors import UserError
from ka_fairseq.whole import written_whole


class Candidate(NamedTuple):
    """A translation of a sentence.

    Attributes:
        score: the teacher's log-probability with the length penalty; higher is better.
        text: the translation, in subwords or in words with spaces between them.
    """

    score: float
    text: str


@dataclass(frozen=True)
class Shard:
    """A range of lines of a text, with the file of their translations.

    Attributes:
        path: the file. Each row is a translation, best first: line (from 1), score, translation.
        first: the first line, counted from 0.
        last: the line after the last line, counted from 0.
    """

    path: Path
    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first

    @property
    def number(self) -> int:
        """The number of the file, from 0."""
        return int(self.path.stem)

    @property
    def lines(self) -> range:
        """The lines, from 0."""
        return range(self.first, self.last)


def divide(folder: Path, sentences: int, size: int) -> list[Shard]:
    """Return the shards of a text.

    Args:
        folder: the folder of the shards' files.
        sentences: the number of lines in the text.
        size: lines in a shard.
    """
    starts = range(0, sentences, size)
    return [
        Shard(folder / f"{number:05}.tsv", first, min(first + size, sentences))
        for number, first in enumerate(starts)
    ]


def write(shard: Shard, found: Mapping[int, Sequence[Candidate]]) -> None:
    """Write a shard completely or not at all.

    Args:
        shard: the shard to write.
        found: translations by line, from 0. Lines without a translation are left out.

    Raises:
        UserError: the system refuses the write, for example because the disk is full.
    """
    shard.path.parent.mkdir(parents=True, exist_ok=True)
    rows = (
        f"{line + 1}\t{candidate.score:.5g}\t{candidate.text}\n"
        for line in sorted(found)
        for candidate in found[line]
    )
    with written_whole(str(shard.path)) as unfinished:
        Path(unfinished).write_text("".join(rows), encoding="utf-8", newline="\n")


def read(shard: Shard) -> list[list[Candidate]]:
    """Return the translations of each line of a shard.

    Raises:
        UserError: the file is missing or is not a file of translations.
    """
    try:
        rows = shard.path.read_text(encoding="utf-8").split("\n")[:-1]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{shard.path} cannot be read ({error}): delete the file and run the same command "
            "again to translate its sentences"
        ) from None
    found: list[list[Candidate]] = [[] for _ in range(len(shard))]
    for line, candidate in parse(rows, shard.path):
        if not shard.first <= line < shard.last:
            raise UserError(
                f"{shard.path} has line {line + 1}, which belongs to another file: delete the file "
                "and run the same command again"
            )
        found[line - shard.first].append(candidate)
    return found


def parse(rows: Iterable[str], path: Path) -> Iterator[tuple[int, Candidate]]:
    """Yield the line, from 0, and the translation of each row.

    Raises:
        UserError: a row does not have the form line, score, translation.
    """
    for number, row in enumerate(rows, start=1):
        line, _, rest = row.partition("\t")
        score, tab, text = rest.partition("\t")
        try:
            if not tab or int(line) < 1:
                raise ValueError
            yield int(line) - 1, Candidate(float(score), text)
        except ValueError:
            raise UserError(
                f"{path}, line {number}: give the number of the sentence (from 1), a score and "
                "the translation, with tabs between them"
            ) from None
