"""Which target positions a loss is over, as row numbers of a batch laid flat."""

from __future__ import annotations

import torch
from torch import Tensor

# Printed by the GPU, which then ends the training.
MISCOUNTED = (
    "a batch's ntokens is not its number of target tokens, as that of the batches before was: have "
    "the data set count what is no padding"
)


def target_rows(target: Tensor, pad: int, ignored_prefix: int = 0) -> Tensor:
    """The rows of ``target.flatten()`` that are no padding, in their order.

    How many there are decides the shapes of all that follows, so here the host waits for a GPU:
    call it once, before the forward pass has filled the queue. See :class:`TargetRows`.

    Args:
        target: reference tokens, shape (batch, length).
        pad: what fills them up.
        ignored_prefix: how many first positions of each sentence to leave out.

    Returns:
        Shape (N,), int64.
    """
    scored = target.ne(pad)
    scored[:, :ignored_prefix] = False
    return scored.flatten().nonzero().squeeze(-1)


def counted_target_rows(target: Tensor, pad: int, count: int) -> Tensor:
    """The same rows where the host knows how many there are: it does not wait for a GPU.

    Args:
        target: reference tokens, shape (batch, length).
        pad: what fills them up.
        count: N, how many are no padding. Where it is wrong, no row is left out silently: a CPU
            raises a RuntimeError, a GPU stops with an assertion.
    """
    scored = target.flatten().ne(pad)
    right = scored.sum().eq(count)
    if hasattr(torch.ops.aten._assert_async, "msg"):
        torch._assert_async(right, MISCOUNTED)
    else:  # torch 1
        torch._assert_async(right)
    # Stable: those that are no padding first, in their order.
    return scored.byte().sort(descending=True, stable=True).indices[:count]


class TargetRows:
    """The rows of batch after batch, for which the host seldom waits for a GPU.

    fairseq's batches say how many target tokens they have. Most data sets count those that are no
    padding; some do not, as language models' with ``--past-target``. So at the first batch on a GPU
    the host waits and compares. Where the number was right, later ones are relied on.
    """

    def __init__(self, pad: int, ignored_prefix: int = 0) -> None:
        """Take what :func:`target_rows` takes."""
        self._pad = pad
        self._ignored_prefix = ignored_prefix
        self._relies = False
        self._compared = False

    def of(self, target: Tensor, ntokens: int) -> Tensor:
        """Those of a batch, see :func:`target_rows`.

        Args:
            target: reference tokens, shape (batch, length).
            ntokens: how many tokens the batch says that it has.
        """
        if self._relies and target.device.type != "cpu":
            return counted_target_rows(target, self._pad, ntokens)
        rows = target_rows(target, self._pad, self._ignored_prefix)
        if target.device.type != "cpu" and not self._compared:
            self._compared = True
            # Of an ignored prefix the host does not know how much is padding.
            self._relies = not self._ignored_prefix and ntokens == len(rows)
        return rows


def select(values: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a tensor of shape (batch, length, …), in one go: (N, …)."""
    return values.flatten(0, 1).index_select(0, rows)
