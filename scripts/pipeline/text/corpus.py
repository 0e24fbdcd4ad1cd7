"""Read and check parallel text files, plain or gzipped."""

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

    Training pairs with an empty side are dropped. Pairs of valid and test stay, as scores of
    different systems are comparable only over the same lines.

    Args:
        folder: the folder of the files.
        languages: endings of source and target files.
        test: the name of the files of the split `test`.

    Returns:
        The pairs of each split.

    Raises:
        PipelineError: a file is missing, empty or not valid UTF-8 (or gzip). Or the two files of
            a split have different numbers of lines.
    """
    if not folder.is_dir():
        raise PipelineError(f"{folder} is not a folder")
    names = {split: test if split == "test" else split for split in SPLITS}
    for name in names.values():  # checks all names before any file is read
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
        PipelineError: the file is missing, both plain and gzipped.
    """
    plain = folder / f"{split}.{language}"
    for path in (plain, plain.with_name(plain.name + ".gz")):
        if path.is_file():
            return path
    there = ", ".join(sorted(file.name for file in folder.glob(f"{split}.*"))) or f"no {split}.*"
    raise PipelineError(
        f"{plain} (or {plain.name}.gz) is missing; the folder has {there}: rename the file, or "
        "give another folder or language"
    )


def read_pairs(folder: Path, languages: tuple[str, str], name: str) -> list[Pair]:
    """Read ``NAME.{src,tgt}`` or the same with ``.gz``.

    Args:
        folder: the folder of the files.
        languages: endings of source and target files.
        name: the name of the files.

    Raises:
        PipelineError: see `read`.
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
    """Read one sentence a line, and replace each run of white space by one space.

    Unicode has more line ends than ``\\n``. Inside a sentence they would make later tools count
    different numbers of lines.

    Args:
        path: the file, gzipped or not.
        columns: whether tabs stay, as separators between the columns of a line.

    Raises:
        PipelineError: the file is empty, not valid UTF-8, has a NUL byte, or is a broken gzip file.
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
        raise PipelineError(f"{path} is not a complete gzip file: {error}") from None


def decode(line: bytes) -> str:
    """Return a line as text, with each run of white space replaced by one space.

    Raises:
        UnicodeDecodeError: the line is not UTF-8, or has a NUL byte. Text in UTF-16 has NUL bytes;
            sentencepiece silently drops lines with them.
    """
    place = line.find(b"\0")
    if place >= 0:
        raise UnicodeDecodeError("utf-8", line, place, place + 1, "NUL byte; is it UTF-16?")
    return " ".join(line.decode("utf-8").split())


def _decode(line: bytes, path: Path, number: int) -> str:
    if number == 1:  # a byte order mark does not belong to the first sentence
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return decode(line)
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path}, line {number}: not valid UTF-8 ({error.reason})") from None
