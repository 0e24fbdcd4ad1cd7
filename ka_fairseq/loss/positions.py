"""Find the target positions of a loss, as row numbers of the flattened batch."""

from __future__ import annotations

import torch
from torch import Tensor

# The GPU prints this message and ends the training.
MISCOUNTED = (
    "a batch's ntokens is not its number of target tokens, unlike in earlier batches: make the "
    "dataset count the target tokens that are not padding"
)


def target_rows(target: Tensor, pad: int, ignored_prefix: int = 0) -> Tensor:
    """Return the rows of ``target.flatten()`` that are not padding, in order.

    The number of rows decides the shapes of all later tensors, so the host waits for a GPU here.
    Call the function once, before the forward pass fills the GPU's queue. See :class:`TargetRows`.

    Args:
        target: reference tokens, shape (batch, length).
        pad: padding index.
        ignored_prefix: number of first positions of each sentence to leave out.

    Returns:
        Shape (N,), int64.
    """
    scored = target.ne(pad)
    scored[:, :ignored_prefix] = False
    return scored.flatten().nonzero().squeeze(-1)


def counted_target_rows(target: Tensor, pad: int, count: int) -> Tensor:
    """Return the rows that are not padding, if their number is known: the host does not wait.

    Args:
        target: reference tokens, shape (batch, length).
        pad: padding index.
        count: N, the number of tokens that are not padding. A wrong number never drops a row
            silently: a CPU raises a RuntimeError, a GPU stops with an assertion.
    """
    scored = target.flatten().ne(pad)
    right = scored.sum().eq(count)
    if hasattr(torch.ops.aten._assert_async, "msg"):
        torch._assert_async(right, MISCOUNTED)
    else:  # torch 1
        torch._assert_async(right)
    # The stable sort puts tokens that are not padding first, in their order.
    return scored.byte().sort(descending=True, stable=True).indices[:count]


class TargetRows:
    """Find the rows of each batch; the host seldom waits for a GPU.

    fairseq's batches have a number of target tokens. Most datasets count the tokens that are not
    padding. Some do not, such as a language model's with ``--past-target``. So at the first batch
    on a GPU, the host waits and compares. If the number is right, later numbers are trusted.
    """

    def __init__(self, pad: int, ignored_prefix: int = 0) -> None:
        """Take the arguments of :func:`target_rows`."""
        self._pad = pad
        self._ignored_prefix = ignored_prefix
        self._relies = False
        self._compared = False

    def of(self, target: Tensor, ntokens: int) -> Tensor:
        """Return the rows of a batch, see :func:`target_rows`.

        Args:
            target: reference tokens, shape (batch, length).
            ntokens: the batch's own number of target tokens.
        """
        if self._relies and target.device.type != "cpu":
            return counted_target_rows(target, self._pad, ntokens)
        rows = target_rows(target, self._pad, self._ignored_prefix)
        if target.device.type != "cpu" and not self._compared:
            self._compared = True
            # The host does not know how much of an ignored prefix is padding.
            self._relies = not self._ignored_prefix and ntokens == len(rows)
        return rows


def select(values: Tensor, rows: Tensor) -> Tensor:
    """Return some rows of a tensor by one operation, (batch, length, …) → (N, …)."""
    return values.flatten(0, 1).index_select(0, rows)
