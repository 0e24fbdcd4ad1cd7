"""What commands import, for the process that they are forked from (tests/forking.py)."""

import contextlib
import runpy

from tests.forking import QUICK_START

# First: in half the time, and without setting up logging. By its path, as that process has only the
# path that Python begins with, and says nothing where it cannot import.
runpy.run_path(str(QUICK_START))["import_fairseq"]()

import fairseq_cli.train  # noqa: E402, F401

import tests.support  # noqa: E402, F401

with contextlib.suppress(ImportError):  # torch 1 has no compiler
    import torch._dynamo  # noqa: F401  the first optimizer imports it
