"""Clean raw pairs of lines as a stream: decode, tokenize, filter, and remove repeated pairs."""

from __future__ import annotations

import collections
import hashlib
import itertools
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pipeline.engine import parallel
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar
from pipeline.text import corpus

RawPair = tuple[bytes, bytes]

_CHUNK = 2000
_HASH_BYTES = 8
TOKENIZERS = ("moses",)


@dataclass(frozen=True)
class Recipe:
    """The cleaning steps for each pair.

    Attributes:
        languages: the source and target language.
        tokenizer: one of `TOKENIZERS`, or None for raw text.
        unicode_form: the Unicode normalization form, or None.
        filtered: whether pairs unfit for training are dropped; otherwise every pair stays.
        max_tokens: the most tokens of a side, counted after tokenization; None for no limit.
        max_ratio: the largest ratio of the sides' token counts, after tokenization; None: no limit.
        unique: whether repeated pairs are dropped.
    """

    languages: tuple[str, str]
    tokenizer: str | None = None
    unicode_form: str | None = None
    filtered: bool = True
    max_tokens: int | None = None
    max_ratio: float | None = None
    unique: bool = False

    @classmethod
    def load(cls, languages: tuple[str, str], section: Mapping[str, Any]) -> Recipe:
        """Read the section `cleaning` of a pair's settings.

        Raises:
            PipelineError: a key or a tokenizer is unknown.
        """
        try:
            recipe = cls(languages=languages, **section)
        except TypeError as error:
            raise PipelineError(f"text.cleaning in pair.yaml: {error}") from None
        if recipe.tokenizer not in (None, *TOKENIZERS):
            raise PipelineError(
                f"text.cleaning.tokenizer {recipe.tokenizer}: choose from {', '.join(TOKENIZERS)}"
            )
        return recipe

    def unfiltered(self) -> Recipe:
        """Return the same recipe for test text: every pair stays."""
        return replace(self, filtered=False, unique=False)


@dataclass
class Counts:
    """The number of pairs read, and the numbers of pairs kept and dropped."""

    read: int = 0
    kept: int = 0
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass
class _Cleaned:
    """A cleaned chunk: the remaining pairs, and a hash of each pair."""

    pairs: list[tuple[str, str]]
    hashes: np.ndarray
    dropped: collections.Counter[str]
    read: int


def clean(
    pairs: Iterable[RawPair],
    recipe: Recipe,
    outputs: tuple[Path, Path],
    *,
    title: str,
    processes: int | None = None,
) -> Counts:
    """Clean the pairs by `recipe`, and write a sentence a line.

    Args:
        pairs: lines of both sides, without line ends.
        recipe: the cleaning steps.
        outputs: the two output files.
        title: the title of the progress bar.
        processes: the number of processes; by default the number of cores.

    Raises:
        PipelineError: unfiltered text has broken UTF-8.
    """
    counts, seen = Counts(), SeenHashes()
    with ExitStack() as stack:
        files = [
            stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for path in outputs
        ]
        progress = stack.enter_context(bar(title=title, unit=" pairs", unit_scale=True))
        chunks = enumerate(parallel.chunks(pairs, _CHUNK))
        for done in parallel.ordered_map(
            _clean_chunk, chunks, initializer=_start, initargs=(recipe,), processes=processes
        ):
            kept = done.pairs
            if recipe.unique:
                new = seen.first_time(done.hashes)
                kept = list(itertools.compress(kept, new))
                done.dropped["duplicate"] += len(done.pairs) - len(kept)
            for side, file in enumerate(files):
                file.write("".join(f"{pair[side]}\n" for pair in kept))
            counts.read += done.read
            counts.kept += len(kept)
            counts.dropped += done.dropped
            progress.update(done.read)
    return counts


def one_side(lines: Sequence[str], recipe: Recipe | None, side: int) -> Iterator[str]:
    """Yield one side of a text as `clean` would write it; every line stays.

    Args:
        lines: lines without line ends.
        recipe: the cleaning steps; None leaves the lines as they are.
        side: 0 for the source, 1 for the target.
    """
    if recipe is None:
        yield from lines
        return
    chunks = ((side, chunk) for chunk in parallel.chunks(lines, _CHUNK))
    for cleaned in parallel.ordered_map(
        _clean_side, chunks, initializer=_start, initargs=(recipe,)
    ):
        yield from cleaned


class SeenHashes:
    """A set of 64-bit numbers with eight bytes per number, a tenth of the memory of Python's set.

    The numbers are in sorted runs. Each run is at least twice as long as the next run. So n
    numbers need n·log₂(n) moves in all; a single sorted array would need n² moves.

    The probability that two of five million different pairs have the same hash is one in a million.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def first_time(self, hashes: np.ndarray) -> np.ndarray:
        """Add hashes; return for each hash whether it is new."""
        unique, first = np.unique(hashes, return_index=True)
        new = np.ones(len(unique), bool)
        for run in self._runs:
            places = np.searchsorted(run, unique)
            inside = places < len(run)
            new[inside] &= run[places[inside]] != unique[inside]
        self._add(unique[new])
        answer = np.zeros(len(hashes), bool)
        answer[first[new]] = True
        return answer

    def _add(self, run: np.ndarray) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.concatenate([self._runs.pop(), run])
            run.sort(kind="stable")  # as fast as a merge, as both runs are sorted
        if len(run):
            self._runs.append(run)


def read_parallel(source: Iterable[bytes], target: Iterable[bytes], name: str) -> Iterator[RawPair]:
    """Yield line n of both sides.

    Args:
        source: the source lines.
        target: the target lines, the same number.
        name: the name of the text, for the error.

    Raises:
        PipelineError: one side has more lines than the other side.
    """
    for number, pair in enumerate(itertools.zip_longest(source, target)):
        if None in pair:
            side = ("source", "target")[pair.index(None)]
            raise PipelineError(
                f"{name}: the {side} side ends after {number} lines, the other goes on: line n of "
                "both must be a pair"
            )
        yield pair


_worker: _Worker


class _Worker:
    """The state of one process: tokenizers take long to build."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizers = [None, None]
        if recipe.tokenizer:
            # Imported here, as sacremoses takes a third of a second, and raw text does not need it.
            from pipeline.text.moses import Moses

            self.tokenizers = [Moses(language) for language in recipe.languages]

    def side(self, line: bytes, side: int) -> str:
        text = corpus.decode(line)
        if self.recipe.unicode_form:
            text = unicodedata.normalize(self.recipe.unicode_form, text)
        tokenizer = self.tokenizers[side]
        return tokenizer.tokenize(text) if tokenizer else text

    def fault(self, source: str, target: str) -> str | None:
        """Return why a pair is unfit for training, or None."""
        if not (source and target):
            return "empty"
        recipe = self.recipe
        lengths = source.count(" ") + 1, target.count(" ") + 1
        if recipe.max_tokens is not None and max(lengths) > recipe.max_tokens:
            return "too long"
        if recipe.max_ratio is not None and max(lengths) > recipe.max_ratio * min(lengths):
            return "ratio of lengths"
        return None


def _start(recipe: Recipe) -> None:
    global _worker
    _worker = _Worker(recipe)


def _clean_side(chunk: tuple[int, list[str]]) -> list[str]:
    side, lines = chunk
    return [_worker.side(line.encode(), side) for line in lines]


def _clean_chunk(numbered: tuple[int, list[RawPair]]) -> _Cleaned:
    number, chunk = numbered
    recipe = _worker.recipe
    pairs, hashes, dropped = [], bytearray(), collections.Counter[str]()
    for offset, raw in enumerate(chunk, start=1):
        try:
            source, target = (_worker.side(line, side) for side, line in enumerate(raw))
        except UnicodeDecodeError as error:
            if not recipe.filtered:
                line = number * _CHUNK + offset
                raise PipelineError(f"line {line}: not valid UTF-8 ({error.reason})") from None
            dropped["broken UTF-8"] += 1
            continue
        if recipe.filtered and (fault := _worker.fault(source, target)):
            dropped[fault] += 1
            continue
        pairs.append((source, target))
        if recipe.unique:
            key = f"{source}\n{target}".encode()
            hashes += hashlib.blake2b(key, digest_size=_HASH_BYTES).digest()
    return _Cleaned(pairs, np.frombuffer(bytes(hashes), np.uint64), dropped, len(chunk))


def stripped(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a file without line ends and without a byte order mark."""
    for number, line in enumerate(file):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield line.rstrip(b"\r\n")
