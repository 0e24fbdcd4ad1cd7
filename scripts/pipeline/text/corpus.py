"""Reading and checking parallel text files, plain or gzipped."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from pipeline.engine.errors import PipelineError

Pair = tuple[str, str]
SPLITS = ("train", "valid", "test")


def read(folder: Path, languages: tuple[str, str], test: str = "test") -> dict[str, list[Pair]]:
    """Read ``{train,valid,test}.{src,tgt}`` or the same with ``.gz``.

    Pairs with an empty side are dropped from train; in valid and test they stay, as scores of
    different systems compare only over the same lines.

    Args:
        folder: where the files are.
        languages: endings of source and target files.
        test: what the files of the split `test` are called.

    Returns:
        The pairs of each split.

    Raises:
        PipelineError: a file is missing, empty or no valid UTF-8 (or gzip), or two files that
            belong together have different numbers of lines.
    """
    if not folder.is_dir():
        raise PipelineError(f"{folder} is no folder")
    names = {split: test if split == "test" else split for split in SPLITS}
    for name in names.values():  # before any is read
        for language in languages:
            find(folder, name, language)
    corpus = {split: read_pairs(folder, languages, name) for split, name in names.items()}
    corpus["train"] = [pair for pair in corpus["train"] if all(pair)]
    if not corpus["train"]:
        raise PipelineError(
            f"{find(folder, 'train', languages[0])}: no line has text on both sides"
        )
    return corpus


def find(folder: Path, split: str, language: str) -> Path:
    """Return the file of a split in a language.

    Raises:
        PipelineError: it is not there, plain or gzipped.
    """
    plain = folder / f"{split}.{language}"
    for path in (plain, plain.with_name(plain.name + ".gz")):
        if path.is_file():
            return path
    raise PipelineError(f"{plain} (or {plain.name}.gz) is missing")


def read_pairs(folder: Path, languages: tuple[str, str], name: str) -> list[Pair]:
    """Read ``NAME.{src,tgt}`` or the same with ``.gz``.

    Args:
        folder: where the files are.
        languages: endings of source and target files.
        name: of the files.

    Raises:
        PipelineError: as for `read`.
    """
    source, target = (find(folder, name, language) for language in languages)
    sources, targets = read_sentences(source), read_sentences(target)
    if len(sources) != len(targets):
        raise PipelineError(
            f"{source} has {len(sources)} lines but {target.name} has {len(targets)}: "
            "line n of both must be a pair"
        )
    return list(zip(sources, targets, strict=True))


def read_sentences(path: Path, *, columns: bool = False) -> list[str]:
    """Read one sentence a line, with every run of white space made one space.

    Unicode knows more line ends than ``\\n``; left inside a sentence, tools downstream would
    disagree on the number of lines.

    Args:
        path: the file, gzipped or not.
        columns: tabs stay: they are between the columns of a line.

    Raises:
        PipelineError: the file is empty, no valid UTF-8, has a NUL byte, or is a broken gzip file.
    """
    lines = _read_bytes(path).split(b"\n")
    if not lines[-1]:
        lines.pop()
    sentences = [
        "\t".join(
            _decode(cell, path, number) for cell in (line.split(b"\t") if columns else [line])
        )
        for number, line in enumerate(lines, start=1)
    ]
    if not any(sentences):
        raise PipelineError(f"{path} is empty")
    return sentences


def _read_bytes(path: Path) -> bytes:
    if path.suffix != ".gz":
        return path.read_bytes()
    try:
        return gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise PipelineError(f"{path} is no whole gzip file: {error}") from None


def decode(line: bytes) -> str:
    """Return a line as text, with every run of white space made one space.

    Raises:
        UnicodeDecodeError: it is no UTF-8, or has a NUL byte, which no text has (text in UTF-16
            does) and which makes sentencepiece leave the line out without a word.
    """
    place = line.find(b"\0")
    if place >= 0:
        raise UnicodeDecodeError("utf-8", line, place, place + 1, "NUL byte; is it UTF-16?")
    return " ".join(line.decode("utf-8").split())


def _decode(line: bytes, path: Path, number: int) -> str:
    if number == 1:  # a byte order mark is no part of the first sentence
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return decode(line)
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}, line {number}: no valid UTF-8 ({error.reason})") from None
