"""Read translations of any other system, from files beside a pair's text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.engine import files
from pipeline.engine.errors import PipelineError
from pipeline.models import plugin
from pipeline.models.settings import Pair
from pipeline.text import clean, corpus

if TYPE_CHECKING:
    from ka_fairseq.distill.shards import Candidate

TRAIN, MONO = "train", "mono"
_NAMES = {TRAIN: "translated", MONO: "mono.translated"}


@dataclass(frozen=True)
class Given:
    """A file of translations.

    Attributes:
        path: a file with one translation per line. Or a ``.tsv`` file with several translations
            per sentence: line number from 1, score, translation. Either may be gzipped.
        source: the file with the source sentences; None: the text that `prepare` made.
    """

    path: Path
    source: Path | None

    @property
    def scored(self) -> bool:
        """Whether the file is a TSV file."""
        return self.path.name.removesuffix(".gz").endswith(".tsv")


def folder(pair: Pair) -> Path:
    """Return the folder of a pair's monolingual text and translations: the folder of its corpus."""
    return pair.files.data_dir or pair.files.config_dir


def monolingual(pair: Pair) -> Path | None:
    """Return the file of monolingual source text, or None."""
    return _found(folder(pair), f"{MONO}.{pair.source_lang}")


def find(pair: Pair, part: str = TRAIN) -> Given | None:
    """Return the file with the translations of a part of the text, or None.

    Raises:
        PipelineError: there are two files.
    """
    names = (f"{_NAMES[part]}.{pair.target_lang}", f"{_NAMES[part]}.tsv")
    there = [path for name in names if (path := _found(folder(pair), name))]
    if len(there) > 1:
        raise PipelineError(f"both {there[0]} and {there[1].name} are there: keep one of them")
    if not there:
        return None
    own = part == TRAIN and pair.files.data_dir is not None
    source = corpus.find(pair.files.data_dir, TRAIN, pair.source_lang) if own else None
    return Given(there[0], source)


def inputs(given: Given) -> dict[str, str]:
    """Return what given translations depend on."""
    return {given.path.name: files.sha256(given.path)}


def translations(pair: Pair, given: Given, prepared: Path) -> Iterator[list[Candidate]]:
    """Yield the translations of each line of the text, best first. A line may have none.

    `prepare` leaves out lines of a user's own corpus. So translations of such a corpus are found by
    the source sentence, not by the line number.

    Args:
        pair: the language pair.
        given: the translations.
        prepared: the source, as `prepare` or `translate` wrote it.

    Raises:
        PipelineError: the translations do not match the source, or are damaged.
    """
    with prepared.open(encoding="utf-8", newline="\n") as file:
        lines = sum(1 for _ in file)
    if given.source is None:
        yield from _read(pair, given, lines, prepared)
        return
    raw = corpus.read_sentences(given.source)
    sentences = clean.one_side(raw, recipe(pair), side=0)
    by_sentence: dict[str, list[Candidate]] = {}
    candidates = _read(pair, given, len(raw), given.source)
    for sentence, found in zip(sentences, candidates, strict=True):
        by_sentence.setdefault(sentence, found)
    with prepared.open(encoding="utf-8", newline="\n") as file:
        for line in file:
            yield by_sentence.get(line.rstrip("\n"), [])


def _read(pair: Pair, given: Given, lines: int, source: Path) -> Iterator[list[Candidate]]:
    with plugin.user_errors():
        from ka_fairseq.distill.shards import Candidate, parse
    sentences = corpus.read_sentences(given.path, columns=given.scored)
    if given.scored:
        with plugin.user_errors():
            rows = list(parse(sentences, given.path))
        if beyond := [line for line, _ in rows if line >= lines]:
            raise PipelineError(
                f"{given.path} translates line {beyond[0] + 1}, but {source} has {lines} lines"
            )
        rows.sort(key=lambda row: (row[0], -row[1].score))
    elif len(sentences) != lines:
        raise PipelineError(
            f"{given.path} has {len(sentences)} lines but {source} has {lines}: line n of both "
            "must belong together"
        )
    else:
        rows = [(line, Candidate(0.0, text)) for line, text in enumerate(sentences) if text]
    texts = clean.one_side([candidate.text for _, candidate in rows], recipe(pair), side=1)
    cleaned = ((line, Candidate(c.score, t)) for (line, c), t in zip(rows, texts, strict=True))
    groups = itertools.groupby(cleaned, key=lambda row: row[0])
    following = next(groups, None)
    for line in range(lines):
        if following is None or following[0] != line:
            yield []
            continue
        yield [candidate for _, candidate in following[1]]
        following = next(groups, None)


def recipe(pair: Pair) -> clean.Recipe | None:
    """Return the cleaning that `prepare` applies to each line of a pair's text, or None."""
    if "cleaning" not in pair.text:
        return None
    return clean.Recipe.load(pair.languages, pair.text["cleaning"])


def _found(folder: Path, name: str) -> Path | None:
    paths = (folder / name, folder / f"{name}.gz")
    return next((path for path in paths if path.is_file()), None)
