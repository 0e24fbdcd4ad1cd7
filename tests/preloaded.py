"""What commands import, for the process that they are forked from (tests/forking.py)."""

from pipeline.engine import quick_start

quick_start.import_fairseq()  # first: in half the time, and without setting up logging

import fairseq_cli.train  # noqa: E402, F401
import torch._dynamo  # noqa: E402, F401  PyTorch's compiler: the first optimizer imports it

import tests.support  # noqa: E402, F401
