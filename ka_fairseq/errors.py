"""The one exception for what the user can mend."""

from __future__ import annotations


class UserError(SystemExit):
    """A wrong input, told in one line that says what to change.

    It is a SystemExit, not an Exception: fairseq-train, fairseq-hydra-train and their worker
    processes let it through, print the line without a traceback and end with status 1.
    """

    def __init__(self, message: str) -> None:
        super().__init__(f"error: {' '.join(message.split())}")
