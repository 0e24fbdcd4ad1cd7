"""Which target positions a loss is over, as row numbers of a batch laid flat."""

from __future__ import annotations

from torch import Tensor


def target_rows(target: Tensor, pad: int, ignored_prefix: int = 0) -> Tensor:
    """The rows of ``target.flatten()`` that are no padding, in their order.

    How many there are decides the shapes of all that follows, so here the host waits for a GPU.
    It is the only time in a step: call it once, before the forward pass has filled the queue.

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


def select(values: Tensor, rows: Tensor) -> Tensor:
    """Some rows of a tensor of shape (batch, length, …), in one go: (N, …)."""
    return values.flatten(0, 1).index_select(0, rows)
