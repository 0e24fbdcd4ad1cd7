"""The exception for errors that the user can correct."""

from __future__ import annotations


class UserError(SystemExit):
    """A wrong input, reported in one line that says what to change.

    The class is a SystemExit, not an Exception, so fairseq-train, fairseq-hydra-train and their
    worker processes do not catch it. They print the line without a traceback and end with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"error: {' '.join(message.split())}")
