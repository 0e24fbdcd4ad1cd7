"""``--to fairseq``: a checkpoint that plain fairseq can load."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ka_fairseq.export.plain import export

WHAT = "a file that plain fairseq loads, without --user-dir"


def add_options(parser: Any) -> None:
    """Add the options of this target."""
    parser.add_argument(
        "--half", action="store_true", help="round the weights to fp16, which halves the file"
    )
    parser.add_argument(
        "--no-folders",
        action="store_true",
        help="leave out the names of folders on this machine (data, save_dir, user_dir)",
    )


def export_to(checkpoint: Path, target: Path, given: Mapping[str, Any]) -> None:
    """Write the file."""
    folders = not given.get("no_folders", False)
    export(checkpoint, target, half=given.get("half", False), folders=folders)
