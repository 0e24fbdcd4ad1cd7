"""Views of a batch: what the decoder reads, and the view's share of the loss."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from ka_fairseq.teacher.cache.cached_dataset import KEY


class Predictions(NamedTuple):
    """The student's most probable tokens.

    Attributes:
        rows: target positions, see :mod:`ka_fairseq.loss.positions`, shape (N,).
        tokens: shape (N,).
    """

    rows: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class View:
    """A batch as a criterion sees it, with a share of the NLL and a share of D.

    The loss is Σ over the views of (1 − λ)·nll_share·NLL + λ·transfer_share·D.

    Attributes:
        sample: the batch, in fairseq's format.
        nll_share: weight of the NLL; 0 leaves out the NLL.
        transfer_share: weight of D; 0 leaves out D and does not ask the teacher.
        predicted: receives the student's best tokens at the positions of the loss, before the next
            view is asked for. These tokens are found while D is computed, at little cost.

    Raises:
        ValueError: ``predicted`` is given, and ``transfer_share`` is 0.
    """

    sample: Mapping[str, Any]
    nll_share: float = 1.0
    transfer_share: float = 1.0
    predicted: Callable[[Predictions], None] | None = None

    def __post_init__(self) -> None:
        if self.predicted is not None and not self.transfer_share:
            raise ValueError("a view with `predicted` needs a transfer_share above 0")


def with_decoder_input(sample: Mapping[str, Any], prev_output_tokens: Tensor) -> dict[str, Any]:
    """Return the batch with other decoder inputs; the given batch does not change.

    A language model has no encoder: its decoder reads what fairseq calls the source.

    The new batch has no stored answers of the teacher. Stored answers belong to the dataset's own
    samples.
    """
    changed = {key: value for key, value in sample.items() if key != KEY}
    net_input = sample["net_input"]
    read = "prev_output_tokens" if "prev_output_tokens" in net_input else "src_tokens"
    changed["net_input"] = {**net_input, read: prev_output_tokens}
    return changed
