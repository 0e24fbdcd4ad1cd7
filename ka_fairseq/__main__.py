"""``fairseq-train --user-dir "$(python -m ka_fairseq)"``: where this package lies.

fairseq looks for a ``--user-dir`` in the working directory and beside itself; the second finds a
package that was installed, but neither an editable installation nor a clone.
"""

from __future__ import annotations

import argparse

import ka_fairseq


def main() -> None:
    """Print the folder, and nothing else."""
    argparse.ArgumentParser(
        prog="python -m ka_fairseq",
        description="Prints the folder of this package, which is what --user-dir of fairseq wants "
        "(common.user_dir of fairseq-hydra-train), from wherever it is called.",
    ).parse_args()
    # As it was imported, links unresolved: what fairseq compares a --user-dir with.
    print(*ka_fairseq.__path__)


if __name__ == "__main__":
    main()
