"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from ka_fairseq.errors import UserError


@contextlib.contextmanager
def written_whole(path: str | Path, suffix: str = ".tmp") -> Iterator[Path]:
    """Yield the name of a file or a folder to make; it becomes `path` where the block succeeds.

    What is at `path` before is replaced then. Where the block fails, what it made is removed.

    Args:
        path: the name in the end.
        suffix: what the other name has in addition. Processes that may write `path` at the same
            time need one each.

    Raises:
        UserError: the system refused, as where the disk is full.
    """
    path = Path(path)
    unfinished = path.with_name(f"{path.name}{suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove(unfinished)  # of a call that was killed
        yield unfinished
        if unfinished.is_dir():
            _remove(path)  # a folder cannot be renamed onto one that has files
        unfinished.replace(path)
    except OSError as error:
        raise UserError(
            f"{path} cannot be written: {error.strerror or error}; mend that and run the same "
            f"command again (what was written before is whole)"
        ) from error
    finally:
        with contextlib.suppress(OSError):
            _remove(unfinished)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
