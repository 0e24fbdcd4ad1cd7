"""``--views argmax``: the decoder reads the learner's own best tokens, pass after pass (TIE-KD)."""

# fairseq makes command-line options from real types of the form Optional[...].
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
    """What the decoder reads."""

    views: Optional[str] = field(
        default=None,
        metadata={
            "help": f"what the decoder reads: {', '.join(VIEWS)} (the reference first, then the "
            "learner's own best tokens, see --view-passes); default: argmax for tie_kd, else "
            "reference",
            "valid": VIEWS,
        },
    )
    view_passes: int = field(
        default=3,
        metadata={
            "help": "passes of --views argmax: one on the reference, each further one on the best "
            "tokens of the one before; D is their mean",
            "valid": Range(1),
        },
    )


def argmax_views(
    sample: Mapping[str, Any], models: Sequence[nn.Module], passes: int, pad: int
) -> Iterator[View]:
    """One view of the reference, then views of the best tokens of the view before (TIE-KD).

    Each is one parallel step of the decoders: token t + 1 of what they read is the learner's best
    token at t, given what it read in the view before. Encoders run once. All views have the same
    share of D; the NLL is the first one's.

    Args:
        sample: fairseq's batch.
        models: learner and teachers, whose encoders run once.
        passes: how many views.
        pad: what fills up decoder inputs.
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
    """A decoder input of predicted tokens, each one place further right than it was predicted.

    Where there is none, the reference's stay: the first token of each sentence, padding, what
    follows positions without a loss, and what follows a position at which padding was predicted,
    which decoders take for the end.

    Args:
        predictions: tokens of some positions.
        reference: the decoder input of the batch, shape (batch, length).
        pad: what fills it up.
    """
    stays = reference.eq(pad)
    # What follows each position; after the last of a row, something that is cut off below.
    following = reference.roll(-1, dims=1).flatten()
    following = following.index_copy(0, predictions.rows, predictions.tokens).view_as(reference)
    read = following.roll(1, dims=1)
    stays[:, 0] = True
    return torch.where(stays | read.eq(pad), reference, read)
