"""Views of a batch: what the decoder reads, and how much of the loss is taken there."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor

from ka_fairseq.teacher.cache.cached_dataset import KEY


class Predictions(NamedTuple):
    """The learner's most probable tokens.

    Attributes:
        rows: target positions, see :mod:`ka_fairseq.loss.positions`, shape (N,).
        tokens: shape (N,).
    """

    rows: Tensor
    tokens: Tensor


@dataclass(frozen=True)
class View:
    """A batch as a criterion sees it: a share of the NLL and a share of D are taken there.

    The loss is Σ over the views of (1 − λ)·nll_share·NLL + λ·transfer_share·D.

    Attributes:
        sample: as fairseq collates it.
        nll_share: how much of the NLL counts; 0 leaves it out.
        transfer_share: how much of D counts; 0 does not ask the teacher.
        predicted: is told the learner's best tokens at the positions of the loss before the next
            view is asked for; finding them costs little where D has a share, and goes only there.

    Raises:
        ValueError: ``predicted`` without a share of D.
    """

    sample: Mapping[str, Any]
    nll_share: float = 1.0
    transfer_share: float = 1.0
    predicted: Callable[[Predictions], None] | None = None

    def __post_init__(self) -> None:
        if self.predicted is not None and not self.transfer_share:
            raise ValueError("a view's best tokens are found only where D has a share")


def with_decoder_input(sample: Mapping[str, Any], prev_output_tokens: Tensor) -> dict[str, Any]:
    """The same batch with other decoder inputs; the sample stays as it is.

    A language model, which is a decoder alone, reads what fairseq calls the source.

    The teacher's stored answers are those to the dataset's own sentence pairs, so this one has
    none.
    """
    changed = {key: value for key, value in sample.items() if key != KEY}
    net_input = sample["net_input"]
    read = "prev_output_tokens" if "prev_output_tokens" in net_input else "src_tokens"
    changed["net_input"] = {**net_input, read: prev_output_tokens}
    return changed
