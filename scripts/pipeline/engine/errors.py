"""The one exception that a user sees."""

from __future__ import annotations

import errno

_REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some room, and the same command goes on"
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check who may read and write there"),
}


class PipelineError(Exception):
    """Something the user can mend; its text is printed as one line, without a traceback."""


def describe(error: OSError) -> str:
    """Say in one line what the system refused, where, and what to do about it."""
    parts = [error.filename, error.strerror or str(error), _REMEDIES.get(error.errno or 0)]
    return ": ".join(str(part) for part in parts if part)
