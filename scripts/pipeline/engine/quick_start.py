"""``python quick_start.py MODULE …``: run ``python -m MODULE …`` with a faster import of fairseq.

`ka_fairseq/quick_import.py` imports fairseq without the packages that take as long as the rest. The
garbage collector is off during the import, because it would find nothing to free.
"""

from __future__ import annotations

import gc
import runpy
import sys
from pathlib import Path
from unittest import mock

QUICK_IMPORT = Path(__file__).parents[3] / "ka_fairseq" / "quick_import.py"


def import_fairseq() -> None:
    """Import fairseq quickly, and nothing of ka_fairseq: it is for the command to import that."""
    gc.disable()
    # One module of fairseq sets up logging. After that, the setup of the command that runs next
    # would have no effect.
    with mock.patch("logging.basicConfig"):
        runpy.run_path(str(QUICK_IMPORT))["import_fairseq"]()
    gc.freeze()
    gc.enable()


def main() -> None:
    """Run the module that the command line names, with the rest of the command line."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = str(Path.cwd())  # as with -m; modules in this file's folder are not found
    del sys.argv[0]
    import_fairseq()
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
