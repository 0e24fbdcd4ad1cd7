"""The one exception that a user sees."""

from __future__ import annotations


class PipelineError(Exception):
    """Something the user can mend; its text is printed as one line, without a traceback."""
