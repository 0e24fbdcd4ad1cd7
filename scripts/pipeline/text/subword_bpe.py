"""Joint BPE by subword-nmt, on tokenized text."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from subword_nmt.apply_bpe import BPE, read_vocabulary
from subword_nmt.learn_bpe import learn_bpe

from pipeline.engine import files, parallel
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar

SETTINGS = {"symbols", "vocabulary_threshold"}

_CODES = "bpe.codes"
# Learning keeps an index from pairs of symbols to words, measured at 1.4 kilobytes a word. In a
# corpus of four million pairs, words beyond the most frequent half million occur once or twice.
# Such words hardly change a merge. Without them memory has a bound.
MOST_WORDS = 500_000
_CHUNK = 5000
# subword-nmt caches every word that it has segmented.
CACHED_WORDS = 200_000


def train(text: Mapping[str, Path], folder: Path, settings: Mapping[str, Any]) -> None:
    """Learn one BPE for all languages, and each language's vocabulary of subwords.

    The result is the same as from subword-nmt's ``learn-joint-bpe-and-vocab``, with less memory.
    Words are counted once, and the counted words are segmented for the vocabulary, not the text.

    Args:
        text: a file of tokenized sentences for each language.
        folder: the output folder for ``bpe.codes`` and ``vocab.LANGUAGE``.
        settings: ``symbols``, the number of merges.

    Raises:
        PipelineError: a setting is unknown.
    """
    if unknown := set(settings) - SETTINGS:
        raise PipelineError(f"segmentation in pair.yaml: subword-nmt has no {sorted(unknown)[0]}")
    words = {language: count_words(path) for language, path in text.items()}
    codes = folder / _CODES
    with codes.open("w", encoding="utf-8") as file:
        learn_bpe(_most_frequent(words.values()), file, settings["symbols"], is_dict=True)
    for language, counts in words.items():
        vocabulary = _count_subwords(counts, codes, language)
        lines = (f"{subword} {count}" for subword, count in vocabulary.most_common())
        files.write_lines(folder / f"vocab.{language}", lines)


def model_files(languages: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """Return the names of the files that segmenting needs; the codes are first."""
    threshold = settings.get("vocabulary_threshold") is not None
    return [_CODES, *(f"vocab.{language}" for language in languages if threshold)]


def join(subwords: str) -> str:
    """Return the tokens, separated by spaces, that the subwords make."""
    return f"{subwords} ".replace("@@ ", "").strip()


def exported(folder: Path, language: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that `ka_fairseq.export.export_folder` needs to segment one language."""
    codes, *vocabulary = model_files([language], settings)
    found = {"codes": folder / codes}
    if vocabulary:
        found["vocabulary"] = folder / vocabulary[0]
        found["vocabulary_threshold"] = settings["vocabulary_threshold"]
    return found


class Segmenter:
    """BPE of one language; a threshold undoes merges that lead to a rare subword.

    A subword may be frequent in one language and rare in the other language. Without a threshold,
    the other language uses this subword, and the model has hardly been trained on it.
    """

    def __init__(self, folder: Path, language: str, settings: Mapping[str, Any]) -> None:
        vocabulary = None
        if (threshold := settings.get("vocabulary_threshold")) is not None:
            with (folder / f"vocab.{language}").open(encoding="utf-8") as file:
                vocabulary = read_vocabulary(file, threshold)
        with (folder / _CODES).open(encoding="utf-8") as file:
            self.bpe = BPE(file, vocab=vocabulary)

    def __call__(self, sentence: str) -> str:
        """Return the subwords, separated by spaces."""
        _limit_cache(self.bpe)
        return self.bpe.segment(sentence)


def count_words(path: Path) -> Counter[str]:
    """Count the words of a tokenized text."""
    counts: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="\n") as file:
        lines = bar(file, f"counting words of {path.name}", unit=" lines", unit_scale=True)
        for some in parallel.ordered_map(_count_chunk, parallel.chunks(lines, _CHUNK)):
            counts.update(some)
            if len(counts) > 4 * MOST_WORDS:
                counts = Counter({word: count for word, count in counts.items() if count > 1})
    return counts


def _most_frequent(words: Iterable[Counter[str]]) -> list[str]:
    joint: Counter[str] = Counter()
    for counts in words:
        joint.update(counts)
    return [f"{word} {count}" for word, count in joint.most_common(MOST_WORDS)]


def _count_chunk(lines: list[str]) -> Counter[str]:
    return Counter(itertools.chain.from_iterable(line.split() for line in lines))


def _count_subwords(words: Mapping[str, int], codes: Path, language: str) -> Counter[str]:
    counts: Counter[str] = Counter()
    items = bar(words.items(), f"segmenting the words of {language}", unit_scale=True)
    chunks = parallel.chunks(items, _CHUNK)
    for some in parallel.ordered_map(_segment_words, chunks, initializer=_load, initargs=(codes,)):
        counts.update(some)
    return counts


_bpe: BPE


def _load(codes: Path) -> None:
    global _bpe
    with codes.open(encoding="utf-8") as file:
        _bpe = BPE(file)


def _segment_words(words: Iterable[tuple[str, int]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for word, count in words:
        for subword in _bpe.segment_tokens([word]):
            counts[subword] += count
    _limit_cache(_bpe)
    return counts


def _limit_cache(bpe: BPE) -> None:
    if len(bpe.cache) > CACHED_WORDS:
        bpe.cache.clear()
