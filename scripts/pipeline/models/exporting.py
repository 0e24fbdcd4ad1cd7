"""Call `ka_fairseq.export` from stages that run at the same time."""

from __future__ import annotations

from pathlib import Path

from pipeline.engine.errors import PipelineError
from pipeline.models.hydra_configs import ONE_AT_A_TIME


class NotExported(PipelineError):
    """Raised for a model that CTranslate2 cannot express."""


def export(checkpoint: Path, target: Path) -> None:
    """Write a copy of a checkpoint with only what translating needs.

    Raises:
        PipelineError: the file is no checkpoint, or the target cannot be written.
    """
    # Imported here: fairseq takes seconds to import, and registers options with Hydra.
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
    """Write a folder that CTranslate2 reads; for the arguments see `ka_fairseq.export.convert`.

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
