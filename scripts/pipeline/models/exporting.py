"""Call `ka_fairseq.export` from stages that run at the same time."""

from __future__ import annotations

from pathlib import Path

from pipeline.engine.errors import PipelineError
from pipeline.models import plugin


class NotExported(PipelineError):
    """Raised for a model that CTranslate2 cannot express."""


def export(checkpoint: Path, target: Path) -> None:
    """Write a copy of a checkpoint with only what translating needs.

    Raises:
        PipelineError: the file is no checkpoint, or the target cannot be written.
    """
    with plugin.user_errors():
        from ka_fairseq import export as exporting

        exporting.export(checkpoint, target)


def convert(
    checkpoint: Path, target: Path, dictionaries: tuple[Path, Path], quantization: str
) -> None:
    """Write a folder that CTranslate2 reads; for the arguments see `ka_fairseq.export.convert`.

    Raises:
        NotExported: CTranslate2 cannot express the model.
        PipelineError: the target cannot be written.
    """
    plugin.load()
    from ka_fairseq.errors import UserError
    from ka_fairseq.export import convert

    try:
        convert(checkpoint, target, dictionaries=dictionaries, quantization=quantization)
    except UserError as error:
        kind = PipelineError if isinstance(error.__cause__, OSError) else NotExported
        raise kind(plugin.message(error)) from None
