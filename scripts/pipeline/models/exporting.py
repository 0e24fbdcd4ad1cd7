"""`ka_fairseq.export`, for stages that run side by side."""

from __future__ import annotations

from pathlib import Path

from pipeline.engine.errors import PipelineError
from pipeline.models.hydra_configs import ONE_AT_A_TIME


class NotExported(PipelineError):
    """A model that CTranslate2 cannot express."""


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


def convert(
    checkpoint: Path, target: Path, dictionaries: tuple[Path, Path], quantization: str
) -> None:
    """Write a folder that CTranslate2 takes; `ka_fairseq.export.convert` has the arguments.

    Raises:
        NotExported: CTranslate2 cannot express the model.
        PipelineError: the target cannot be written.
    """
    with ONE_AT_A_TIME:
        from ka_fairseq import errors
        from ka_fairseq.export import convert
    try:
        convert(checkpoint, target, dictionaries=dictionaries, quantization=quantization)
    except errors.UserError as error:
        kind = PipelineError if isinstance(error.__cause__, OSError) else NotExported
        raise kind(str(error).removeprefix("error: ")) from None
