"""`ka_fairseq.export`, for stages that run side by side."""

from __future__ import annotations

import threading
from pathlib import Path

from pipeline.errors import PipelineError

# A module that another thread is still reading in may be found half made.
_importing = threading.Lock()


def export(checkpoint: Path, target: Path) -> None:
    """Write a checkpoint anew with what translating needs.

    Raises:
        PipelineError: it is no checkpoint, or the target cannot be written.
    """
    with _importing:  # here, as it imports fairseq: that takes seconds
        from ka_fairseq import errors
        from ka_fairseq import export as exporting
    try:
        exporting.export(checkpoint, target)
    except errors.UserError as error:
        raise PipelineError(str(error)) from None
