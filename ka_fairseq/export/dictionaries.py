"""Find the dictionaries of a translation model."""

from __future__ import annotations

from pathlib import Path

from fairseq.data.data_utils import infer_language_pair

from ka_fairseq.errors import UserError


def find_languages(data: Path, source: str | None, target: str | None) -> tuple[str, str]:
    """Return source and target language of a data-bin.

    Args:
        data: the data-bin, as fairseq-preprocess wrote it.
        source: the source language, or None if it is unknown.
        target: the target language, or None if it is unknown.

    Raises:
        UserError: the folder is missing, or its file names do not tell the languages.
    """
    if not data.is_dir():
        raise UserError(f"{data} is no folder: give the data-bin, the folder with dict.LANG.txt")
    found = (source, target)
    if None in found:
        inferred = infer_language_pair(str(data))  # from names like train.de-en.de.bin
        found = (source or inferred[0], target or inferred[1])
    if None in found:
        raise UserError(
            f"no file name in {data} tells the languages: give --source-lang and --target-lang"
        )
    return found


def paths(data: Path, languages: tuple[str, str]) -> tuple[Path, Path]:
    """Return the paths of the source and target dictionaries in a data-bin."""
    source, target = (data / f"dict.{language}.txt" for language in languages)
    return source, target
