"""Where a translation model's dictionaries are."""

from __future__ import annotations

from pathlib import Path

from fairseq.data.data_utils import infer_language_pair

from ka_fairseq.errors import UserError


def find_languages(data: Path, source: str | None, target: str | None) -> tuple[str, str]:
    """Return source and target language of a folder that fairseq-preprocess wrote.

    Args:
        data: the folder.
        source: the source, where it is known.
        target: likewise.

    Raises:
        UserError: the folder's files do not tell them.
    """
    if not data.is_dir():
        raise UserError(f"--data {data} is no folder: give the one with the model's dict.LANG.txt")
    found = (source, target)
    if None in found:
        inferred = infer_language_pair(str(data))  # of names like train.de-en.de.bin
        found = (source or inferred[0], target or inferred[1])
    if None in found:
        raise UserError(
            f"{data} has no text whose name tells the languages: give --source-lang and "
            "--target-lang"
        )
    return found


def paths(data: Path, languages: tuple[str, str]) -> tuple[Path, Path]:
    """Return the dictionaries of source and target in such a folder."""
    source, target = (data / f"dict.{language}.txt" for language in languages)
    return source, target
