"""Write files that are complete or absent, even after a kill; compute hashes of files."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename the file to `path` if the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    remove(temporary)
    yield temporary
    if temporary.is_dir():
        remove(path)  # a folder cannot be renamed onto one that has files
    temporary.replace(path)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write lines, each ended by a newline, whole or not at all."""
    write_text(path, "".join(line + "\n" for line in lines))


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file that `write_lines` wrote. Only a newline ends a line."""
    return path.read_text(encoding="utf-8").split("\n")[:-1]


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file, or None if there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content; do nothing if the path does not exist."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of(paths: Iterable[Path]) -> str:
    """Return the SHA-256 of each file, in the order of the files, joined by ``+``."""
    return "+".join(map(sha256, paths))
