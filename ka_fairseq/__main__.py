"""Print the folder of this package: ``fairseq-train --user-dir "$(python -m ka_fairseq)"``.

fairseq looks for a ``--user-dir NAME`` in the working directory and beside its own package. In
these places fairseq finds an installed ka_fairseq, but not an editable installation or a clone.
"""

from __future__ import annotations

import argparse

import ka_fairseq


def main() -> None:
    """Print the folder and nothing else."""
    argparse.ArgumentParser(
        prog="python -m ka_fairseq",
        description="Print the folder of this package, the value for fairseq's --user-dir "
        "(common.user_dir of fairseq-hydra-train). The command works in any working directory.",
    ).parse_args()
    # The path as imported, with links unresolved: fairseq compares --user-dir with this path.
    print(*ka_fairseq.__path__)


if __name__ == "__main__":
    main()
