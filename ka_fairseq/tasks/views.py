"""Views of a batch: what the decoder reads, and how much of the loss is taken there."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ka_fairseq.teacher.cache.cached_dataset import KEY


@dataclass(frozen=True)
class View:
    """A batch as a criterion sees it: a share of the NLL and a share of D are taken there.

    The loss is Σ over the views of (1 − λ)·nll_share·NLL + λ·transfer_share·D.

    Attributes:
        sample: as fairseq collates it.
        nll_share: how much of the NLL counts; 0 leaves it out.
        transfer_share: how much of D counts; 0 does not ask the teacher.
    """

    sample: Mapping[str, Any]
    nll_share: float = 1.0
    transfer_share: float = 1.0


def with_decoder_input(sample: Mapping[str, Any], prev_output_tokens: Tensor) -> dict[str, Any]:
    """The same batch with other decoder inputs, of the same shape; the sample stays as it is.

    A language model, which is a decoder alone, reads what fairseq calls the source.

    The teacher's stored answers are those to the dataset's own sentence pairs, so this one has
    none.
    """
    changed = {key: value for key, value in sample.items() if key != KEY}
    net_input = sample["net_input"]
    read = "prev_output_tokens" if "prev_output_tokens" in net_input else "src_tokens"
    changed["net_input"] = {**net_input, read: prev_output_tokens}
    return changed
