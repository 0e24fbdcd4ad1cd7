"""Patches that make fairseq more reliable; fairseq runs without them.

Importing this package applies the patches and logs them in one line. The environment variable
``KA_FAIRSEQ_HARDENING_OFF`` names patches to leave out.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable

from ka_fairseq.errors import UserError
from ka_fairseq.hardening import reading, resuming, writing
from ka_fairseq.hardening.writing import save_whole

__all__ = ["PATCHES", "SWITCH", "harden", "save_whole"]

logger = logging.getLogger(__name__)

SWITCH = "KA_FAIRSEQ_HARDENING_OFF"

# Name: (what changes, the functions that apply the patch).
PATCHES: dict[str, tuple[str, tuple[Callable[[], None], ...]]] = {
    "reading": (
        "damaged, foreign and unfitting checkpoints are refused in one line",
        (
            reading.check_lengths_of_tensors,
            reading.explain_checkpoint_errors,
            reading.explain_other_shapes,
        ),
    ),
    "writing": (
        "checkpoints are written whole or not at all",
        (writing.write_checkpoints_whole,),
    ),
    "resuming": (
        "a resumed run gives the same result as an uninterrupted one",
        (resuming.resume_exactly,),
    ),
}


def harden(off: str) -> None:
    """Apply all patches that are not switched off, and log them.

    Args:
        off: names of patches to leave out, separated by commas, or ``all``.

    Raises:
        UserError: a name is not the name of a patch.
    """
    left_out = {name.strip() for name in off.split(",") if name.strip()}
    if unknown := sorted(left_out - {*PATCHES, "all"}):
        raise UserError(f"{SWITCH}={unknown[0]}: choose from {', '.join(PATCHES)}, all")
    applied = {name for name in PATCHES if not left_out & {name, "all"}}
    for name in PATCHES:
        for patch in PATCHES[name][1] if name in applied else ():
            patch()
    told = [f"{name} ({what})" for name, (what, _) in PATCHES.items() if name in applied]
    if told:
        logger.info(f"fairseq is patched: {'; '.join(told)}; to leave out: {SWITCH}=NAME,...")


harden(os.environ.get(SWITCH, ""))
