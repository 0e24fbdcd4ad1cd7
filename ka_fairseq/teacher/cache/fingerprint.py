"""Record what a teacher cache was made from, and refuse a cache that does not match the run."""

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
    """Return the SHA-256 of the contents of files, in the given order."""
    digest = hashlib.sha256()
    for path in paths:
        with Path(path).open("rb") as file:
            while block := file.read(2**20):
                digest.update(block)
    return digest.hexdigest()


def of_dictionaries(dictionaries: Iterable[Dictionary]) -> str:
    """Return the SHA-256 of all symbols, in their order."""
    symbols = [dictionary.symbols for dictionary in dictionaries]
    return hashlib.sha256(json.dumps(symbols).encode()).hexdigest()


def of_lengths(lengths: Iterable[np.ndarray]) -> str:
    """Return the SHA-256 of sentence lengths.

    This hash detects another dataset at the start. If all lengths agree, the checksum of the first
    pair's tokens detects the difference, when that pair is read.
    """
    digest = hashlib.sha256()
    for array in lengths:
        digest.update(np.ascontiguousarray(array, dtype=np.int64).tobytes())
    return digest.hexdigest()


def check(file: Path, now: Fingerprint, folder: Path) -> None:
    """Compare a cache's record with this run; write the record if there is none yet.

    Args:
        file: the file of the record.
        now: the fingerprint of this run.
        folder: the cache's folder, for the error.

    Raises:
        UserError: a part of the fingerprint differs; the message names the part.
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
            f"the teacher cache {folder} was made with another {what}: give another folder as "
            f"--teacher-cache, or delete this folder (its record is {file})"
        )


def _write(file: Path, fingerprint: Fingerprint) -> None:
    """Write the record in one step, so that another worker never reads a part of it."""
    with written_whole(file, suffix=f".{os.getpid()}") as temporary:
        temporary.write_text(json.dumps(dict(fingerprint), indent=1), encoding="utf-8")


def _short(value: str | None) -> str:
    return "nothing" if value is None else value[:12]
