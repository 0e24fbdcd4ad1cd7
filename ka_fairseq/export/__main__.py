"""``python -m ka_fairseq.export learner.pt out.pt``: a checkpoint that plain fairseq takes."""

from __future__ import annotations

import argparse
from pathlib import Path

from ka_fairseq.export.plain import export


def main() -> None:
    """Parse the command line and export."""
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.export",
        description="Write a checkpoint that plain fairseq loads, without --user-dir.",
    )
    parser.add_argument("checkpoint", type=Path, help="written by fairseq-train")
    parser.add_argument("target", type=Path, help="file to write")
    parser.add_argument(
        "--half", action="store_true", help="round the weights to fp16, for half the file"
    )
    parser.add_argument(
        "--no-folders",
        action="store_true",
        help="leave the names of folders on this machine (data, save_dir, user_dir) out",
    )
    args = parser.parse_args()
    export(args.checkpoint, args.target, half=args.half, folders=not args.no_folders)


if __name__ == "__main__":
    main()
