"""Write files and folders completely or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ka_fairseq.errors import UserError


@contextlib.contextmanager
def written_whole(path: str | Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield a temporary name for a file or folder; rename it to `path` if the block succeeds.

    An earlier file or folder at `path` is replaced. If the block fails, the temporary file or
    folder is removed.

    Args:
        path: the final name.
        suffix: the ending of the temporary name. Processes that may write `path` at the same time
            need different suffixes.

    Raises:
        UserError: the system refuses the write, for example because the disk is full.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)  # left by a killed call
        yield unfinished
        if unfinished.is_dir():
            _remove(path)  # a folder cannot be renamed onto one that has files
        unfinished.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; correct that and run the same "
            f"command again (files written before are complete)"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
