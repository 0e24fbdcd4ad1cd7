"""Import the package `ka_fairseq` into this process, which runs stages in several threads."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator

from pipeline.engine import quick_start
from pipeline.engine.errors import PipelineError
from pipeline.models.hydra_configs import ONE_AT_A_TIME


def load() -> None:
    """Import the package and fairseq. The first call takes seconds, all others take no time.

    fairseq registers options with Hydra, so one thread at a time does this.
    """
    with ONE_AT_A_TIME:
        quick_start.import_fairseq()
        importlib.import_module("ka_fairseq")


def message(error: Exception) -> str:
    """Return the message of the package's `UserError`, without its first word."""
    return str(error).removeprefix("error: ")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Import the package, and turn its `UserError` into `PipelineError`."""
    load()
    from ka_fairseq.errors import UserError

    try:
        yield
    except UserError as error:
        raise PipelineError(message(error)) from None
