"""`ka_fairseq.export`, for stages that run side by side."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.hydra_configs import ONE_AT_A_TIME


def export(checkpoint: Path, target: Path) -> None:
    """Write a checkpoint anew with what translating needs.

    Raises:
        PipelineError: it is no checkpoint, or the target cannot be written.
    """
    # Here, as it imports fairseq: that takes seconds, and registers options with Hydra.
    with ONE_AT_A_TIME:
        from ka_fairseq import errors
        from ka_fairseq import export as exporting
    try:
        exporting.export(checkpoint, target)
    except errors.UserError as error:
        raise PipelineError(str(error).removeprefix("error: ")) from None
