"""Write checkpoints completely or not at all."""

from __future__ import annotations

import errno
import functools
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

import torch
from fairseq import checkpoint_utils
from fairseq.file_io import PathManager

from ka_fairseq.errors import UserError
from ka_fairseq.whole import written_whole

logger = logging.getLogger(__name__)

# Seconds to wait before each retry of a write; the same values as in fairseq.
RETRIES = (2.5, 2.5)
# Errors that may pass after a wait, such as errors of a network disk.
PASSING = (errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EAGAIN)


class _ErrorKeepingFile:
    """A file that keeps the error of a failed write, because torch.save drops it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._file.flush()


def _write(state: Any, path: Path) -> None:
    with path.open("wb") as file:
        watched = _ErrorKeepingFile(file)
        try:
            torch.save(state, watched)
        except RuntimeError as error:
            raise watched.error or error from None
        _reach_disk(file)


def _reach_disk(file: BinaryIO) -> None:
    """Flush a file to the disk. Without the flush, a power cut may leave a renamed, empty file."""
    file.flush()
    os.fsync(file.fileno())


def save_whole(state: Any, path: str) -> None:
    """Write a checkpoint so that the path always holds the complete old or new file.

    Raises:
        UserError: the system refuses the write, for example because the disk is full.
    """
    with written_whole(path) as unfinished:
        for seconds in RETRIES:
            try:
                return _write(state, unfinished)
            except OSError as error:
                if error.errno not in PASSING:
                    raise
                logger.warning(f"{unfinished}: {error}; trying again")
                time.sleep(seconds)
        _write(state, unfinished)


def _saves_whole(save: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(save)
    def torch_persistent_save(obj: Any, filename: Any, async_write: bool = False) -> None:
        remote = not isinstance(filename, str) or not PathManager.supports_rename(filename)
        if async_write or remote:
            save(obj, filename, async_write)
        else:
            save_whole(obj, filename)

    torch_persistent_save.writes_whole = True
    return torch_persistent_save


def _copies_whole(copy: Callable[..., bool]) -> Callable[..., bool]:
    @functools.wraps(copy)
    def copy_whole(src_path: str, dst_path: str, overwrite: bool = False) -> bool:
        if PathManager.path_requires_pathmanager(src_path) or not PathManager.supports_rename(
            dst_path
        ):
            return copy(src_path, dst_path, overwrite)
        with written_whole(dst_path) as unfinished:
            shutil.copyfile(src_path, unfinished)
            with unfinished.open("rb") as file:
                _reach_disk(file)
        return True

    copy_whole.writes_whole = True
    return copy_whole


def _explains_unwritable(verify: Callable[[str], None]) -> Callable[[str], None]:
    @functools.wraps(verify)
    def verify_checkpoint_directory(save_dir: str) -> None:
        try:
            verify(save_dir)
        except OSError as error:
            raise UserError(
                f"{save_dir} cannot be written: {error.strerror}; give another --save-dir "
                f"(checkpoint.save_dir)"
            ) from error

    verify_checkpoint_directory.writes_whole = True
    return verify_checkpoint_directory


def write_checkpoints_whole() -> None:
    """Make fairseq write checkpoints completely or not at all, and report failures in one line.

    fairseq writes a checkpoint under a temporary name and renames it. Without the patch,

    - fairseq then *copies* it onto checkpoint_best.pt and checkpoint_last.pt. A kill or a full disk
      leaves half a file there, and no training can resume from half a file;
    - after a failed write fairseq appends its retry to the same file. Even if the disk has room
      again, the file cannot be read;
    - the final error (torch's "unexpected pos 768 vs 662") names neither the file nor the reason.
    """
    places = (
        (checkpoint_utils, "torch_persistent_save", _saves_whole),
        (checkpoint_utils, "verify_checkpoint_directory", _explains_unwritable),
    )
    for module, name, wrap in places:
        if not hasattr(getattr(module, name), "writes_whole"):
            setattr(module, name, wrap(getattr(module, name)))
    if not hasattr(PathManager.copy, "writes_whole"):
        PathManager.copy = staticmethod(_copies_whole(PathManager.copy))
