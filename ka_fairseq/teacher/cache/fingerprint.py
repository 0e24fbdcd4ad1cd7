"""What a teacher cache was made of, so that it is never used for anything else."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from fairseq.data import Dictionary

from ka_fairseq.errors import UserError
from ka_fairseq.whole import written_whole

Fingerprint = Mapping[str, str]


def of_files(paths: Iterable[str]) -> str:
    """SHA-256 over the contents of files, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def of_dictionaries(dictionaries: Iterable[Dictionary]) -> str:
    """SHA-256 over all symbols, in their order."""
    symbols = [dictionary.symbols for dictionary in dictionaries]
    return hashlib.sha256(json.dumps(symbols).encode()).hexdigest()


def of_lengths(lengths: Iterable[np.ndarray]) -> str:
    """SHA-256 over sentence lengths.

    It tells another dataset from this one at the start. Two datasets whose sentences are all of the
    same lengths are told apart when the first pair is read, by a checksum of its tokens.
    """
    digest = hashlib.sha256()
    for array in lengths:
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()


def check(file: Path, now: Fingerprint, folder: Path) -> None:
    """Compare with what the cache was made of; write it down where there is nothing yet.

    Args:
        file: where it stands.
        now: what this run has.
        folder: the cache, for the error.

    Raises:
        UserError: something differs; the message says what.
    """
    try:
        then = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        _write(file, now)
        return
    except ValueError:
        then = {}
    different = [name for name in now if then.get(name) != now[name]]
    if different:
        what = ", ".join(
            f"{name} ({_short(then.get(name))} there, {_short(now[name])} here)"
            for name in different
        )
        raise UserError(
            f"the teacher cache {folder} was made with another {what}: name another folder with "
            f"--teacher-cache, or delete this one ({file})"
        )


def _write(file: Path, fingerprint: Fingerprint) -> None:
    """All at once: another worker reads nothing or the whole."""
    with written_whole(file, suffix=f".{os.getpid()}") as temporary:
        temporary.write_text(json.dumps(dict(fingerprint), indent=1), encoding="utf-8")


def _short(value: str | None) -> str:
    return "nothing" if value is None else value[:12]
