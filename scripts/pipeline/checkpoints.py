"""What the pipeline does with fairseq's checkpoint files."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import torch

from pipeline import files

LAST = "checkpoint_last.pt"


def mend_last(folder: Path) -> Path | None:
    """Make checkpoint_last.pt one that fairseq can go on from, if any can be.

    fairseq renames a new checkpoint into place but *copies* it to its other names, so a kill can
    leave half a checkpoint_last.pt beside the whole one it was copied from.

    Returns:
        The file to go on from, or None where there is none.
    """
    last = folder / LAST
    if not last.exists() or zipfile.is_zipfile(last):
        return last if last.exists() else None
    whole = [path for path in folder.glob("checkpoint*.pt") if zipfile.is_zipfile(path)]
    if not whole:
        last.unlink()
        return None
    newest = max(whole, key=lambda path: path.stat().st_mtime_ns)
    with files.written_whole(last) as temporary:
        shutil.copyfile(newest, temporary)
    return last


def count_updates(checkpoint: Path) -> int:
    """Return how many updates the training had made when it wrote `checkpoint`."""
    from ka_fairseq import compat  # here, as it imports all of fairseq: that takes seconds

    compat.allow_fairseq_checkpoints()
    state = torch.load(checkpoint, map_location="cpu")
    return int(state["optimizer_history"][-1]["num_updates"])


def export_model(checkpoint: Path, target: Path) -> None:
    """Write `checkpoint` as plain fairseq reads it: see `ka_fairseq.export`."""
    from ka_fairseq.export import export  # here, as it imports all of fairseq: that takes seconds

    export(checkpoint, target)
