"""What commands import, for the process that they are forked from (tests/forking.py)."""

from unittest import mock

# One module of fairseq sets up logging, which is for the commands to do.
with mock.patch("logging.basicConfig"):
    import ka_fairseq  # noqa: F401  first: it imports fairseq in half the time

import fairseq_cli.train  # noqa: F401
import torch._dynamo  # noqa: F401  PyTorch's compiler: the first optimizer imports it

import tests.support  # noqa: F401
