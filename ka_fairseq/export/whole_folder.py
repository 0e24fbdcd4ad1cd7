"""Folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ka_fairseq.errors import UserError


@contextlib.contextmanager
def whole_folder(target: Path, marker: str) -> Iterator[Path]:
    """Yield the name of a folder to make; it becomes `target` where the block succeeds.

    Args:
        target: the folder's name in the end. One that is empty or was written in this way before
            is replaced.
        marker: a file that such a folder has.

    Raises:
        UserError: there is something else at `target`, or the system refused.
    """
    if target.is_dir() and not target.is_symlink():
        ours = (target / marker).is_file() or not any(target.iterdir())
    else:
        ours = not (target.exists() or target.is_symlink())
    if not ours:
        raise UserError(
            f"{target} is there and is no exported model: name another folder, or remove it"
        )
    unfinished = target.with_name(f"{target.name}.tmp")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a call that was killed
        target.parent.mkdir(parents=True, exist_ok=True)
        yield unfinished
        if target.exists():
            shutil.rmtree(target)  # a folder cannot be renamed onto one that has files
        unfinished.rename(target)
    except OSError as error:
        raise UserError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
