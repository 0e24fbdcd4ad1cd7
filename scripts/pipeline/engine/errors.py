"""The exception whose message a user sees."""

from __future__ import annotations

import errno

_REMEDIES = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "free some room, then run the same command again"
    ),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "check the permissions"),
}


class PipelineError(Exception):
    """An error that the user can correct. It is printed as one line, without a traceback."""


def describe(error: OSError) -> str:
    """Return one line that says what the system refused, where, and what to do."""
    parts = [error.filename, error.strerror or str(error), _REMEDIES.get(error.errno or 0)]
    return ": ".join(str(part) for part in parts if part)
