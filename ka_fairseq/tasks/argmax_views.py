"""``--views argmax``: the decoder reads the student's own best tokens in further passes."""

# fairseq builds command-line options only from types that are written as Optional[...].
# ruff: noqa: UP045

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

import torch
from fairseq.dataclass import FairseqDataclass
from torch import Tensor, nn

from ka_fairseq.models import encoders_run_once
from ka_fairseq.ranges import Range
from ka_fairseq.tasks.views import Predictions, View, with_decoder_input

VIEWS = ("reference", "argmax")


@dataclass
class ViewsConfig(FairseqDataclass):
    """Options for what the decoder reads."""

    views: Optional[str] = field(
        default=None,
        metadata={
            "help": f"what the decoder reads: {', '.join(VIEWS)}; argmax reads the reference "
            "first, then the student's own best tokens (see --view-passes); default: argmax for "
            "tie_kd, reference otherwise",
            "valid": VIEWS,
        },
    )
    view_passes: int = field(
        default=3,
        metadata={
            "help": "number of passes of --views argmax: the first pass reads the reference, each "
            "later pass the best tokens of the previous pass; D is the mean over the passes",
            "valid": Range(1),
        },
    )


def argmax_views(
    sample: Mapping[str, Any], models: Sequence[nn.Module], passes: int, pad: int
) -> Iterator[View]:
    """Yield one view of the reference, then views of the previous view's best tokens.

    Each view is one parallel step of the decoders. Token t + 1 of a decoder input is the student's
    best token at position t of the previous view. The encoders run once. All views have the same
    share of D. Only the first view has the NLL. The method is TIE-KD's (Zhang et al., ACL 2023).

    Args:
        sample: fairseq's batch.
        models: student and teachers, whose encoders run once.
        passes: number of views.
        pad: padding index of decoder inputs.
    """
    target_input = sample["net_input"].get("prev_output_tokens")
    read = reference = sample["net_input"]["src_tokens"] if target_input is None else target_input
    with encoders_run_once(models):
        for number in range(passes):
            answers: list[Predictions] = []
            yield View(
                with_decoder_input(sample, read) if number else sample,
                nll_share=0.0 if number else 1.0,
                transfer_share=1 / passes,
                predicted=answers.append if number + 1 < passes else None,
            )
            if answers:
                read = shifted(answers.pop(), reference, pad)


def shifted(predictions: Predictions, reference: Tensor, pad: int) -> Tensor:
    """Return a decoder input of predicted tokens, each shifted one place to the right.

    The reference's token stays in four cases: the first token of each sentence, padding, a token
    after a position without a loss, and a token after predicted padding. Decoders would take
    predicted padding for the end of the sentence.

    Args:
        predictions: predicted tokens of some positions.
        reference: the decoder input of the batch, shape (batch, length).
        pad: padding index.
    """
    stays = reference.eq(pad)
    # The token after each position. The value after a row's last position is not used.
    following = reference.roll(-1, dims=1).flatten()
    following = following.index_copy(0, predictions.rows, predictions.tokens).view_as(reference)
    read = following.roll(1, dims=1)
    stays[:, 0] = True
    return torch.where(stays | read.eq(pad), reference, read)
