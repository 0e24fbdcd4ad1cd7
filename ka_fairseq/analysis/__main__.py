"""``python -m ka_fairseq.analysis COMMAND``: draw the paper's figures from your checkpoints."""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Sequence

from ka_fairseq.analysis import (
    agreement,
    derivatives,
    entropy,
    novel_tokens,
    options,
    sweep,
    top_tokens,
    toy,
)
from ka_fairseq.errors import UserError

DESCRIPTION = """\
Draw the figures and tables of Sun & Cross (2020), "Learn to Talk via Proactive Knowledge Transfer",
from your own checkpoints. Every command writes numbers as CSV and a figure as PNG and SVG.
COMMAND --help lists the options of a command.
"""
EXAMPLE = """\
example:
  python -m ka_fairseq.analysis entropy --data data-bin --split valid \\
      --run KD=runs/kd --run KA=runs/ka --start runs/learner/checkpoint_best.pt
"""


def main(argv: Sequence[str] | None = None) -> None:
    """Parse a command line and run its command."""
    # Importing fairseq sets the root logger to DEBUG.
    logging.getLogger().setLevel(logging.WARNING)
    # A warning about fairseq's encoder in evaluation mode, which a user cannot change.
    warnings.filterwarnings("ignore", message="Support for mismatched key_padding_mask")
    parser = argparse.ArgumentParser(
        prog="python -m ka_fairseq.analysis",
        description=DESCRIPTION,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True, title="commands")
    for module in (derivatives, toy, entropy, novel_tokens, top_tokens, sweep, agreement):
        module.add_command(commands)
    args = parser.parse_args(argv)
    try:
        options.check_writable(args.out)
        args.call(args)
    except OSError as error:
        raise UserError(f"{error.filename or args.out}: {error.strerror or error}") from error


if __name__ == "__main__":
    main()
