"""Raw pairs of lines to training text: decoded, tokenized, filtered, each pair once; streaming."""

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
    """What is done to each pair.

    Attributes:
        languages: of source and target.
        tokenizer: one of `TOKENIZERS`, or None for raw text.
        unicode_form: normalization form of Unicode, or None.
        filtered: drop what is not fit to train on; without it every pair stays.
        max_tokens: longer sides are dropped, counted after tokenization; None for no bound.
        max_ratio: a side with more than this times the other's tokens is dropped, likewise.
        unique: drop a pair that came before.
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
        """Return the same recipe for text to be scored on: every pair stays."""
        return replace(self, filtered=False, unique=False)


@dataclass
class Counts:
    """How many pairs were read, and what became of them."""

    read: int = 0
    kept: int = 0
    dropped: collections.Counter[str] = field(default_factory=collections.Counter)


@dataclass
class _Cleaned:
    """A chunk on its way back: what is left of it, and a hash of each pair."""

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
    """Write what `recipe` makes of the pairs, a sentence a line.

    Args:
        pairs: lines of both sides, without their ends.
        recipe: what to do.
        outputs: the two files.
        title: for the bar.
        processes: as many as there are cores by default.

    Raises:
        PipelineError: broken UTF-8 in text that is not filtered.
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
    """Yield what `clean` makes of one side of a text; every line stays.

    Args:
        lines: without their ends.
        recipe: what to do; None: nothing.
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
    """A set of 64-bit numbers, eight bytes each: Python's own takes ten times that.

    They are kept in sorted runs, each at least twice as long as the next, so that n numbers are
    moved n·log₂(n) times in all: into one sorted array they would be n² times.

    Two of five million different pairs have the same hash with a probability of one in a million.
    """

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def first_time(self, hashes: np.ndarray) -> np.ndarray:
        """Add hashes; return for each whether it is seen for the first time."""
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
            run.sort(kind="stable")  # as good as a merge where two runs are sorted already
        if len(run):
            self._runs.append(run)


def read_parallel(source: Iterable[bytes], target: Iterable[bytes], name: str) -> Iterator[RawPair]:
    """Yield line n of both sides.

    Args:
        source: lines.
        target: as many.
        name: of the text, for the error.

    Raises:
        PipelineError: one side has more lines than the other.
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
    """The state of one process: tokenizers are slow to make."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tokenizers = [None, None]
        if recipe.tokenizer:
            # Not above: sacremoses takes a third of a second, which raw text does without.
            from pipeline.text.moses import Moses

            self.tokenizers = [Moses(language) for language in recipe.languages]

    def side(self, line: bytes, side: int) -> str:
        text = corpus.decode(line)
        if self.recipe.unicode_form:
            text = unicodedata.normalize(self.recipe.unicode_form, text)
        tokenizer = self.tokenizers[side]
        return tokenizer.tokenize(text) if tokenizer else text

    def fault(self, source: str, target: str) -> str | None:
        """Return why a pair is not fit to train on, or None."""
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
                raise PipelineError(f"line {line}: no valid UTF-8 ({error.reason})") from None
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
    """Yield the lines of a file without their ends and without a byte order mark."""
    for number, line in enumerate(file):
        if number == 0:
            line = line.removeprefix(b"\xef\xbb\xbf")
        yield line.rstrip(b"\r\n")
