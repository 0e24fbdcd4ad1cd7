"""The option for the size of the chunks in which a loss is computed."""

from dataclasses import dataclass, field

from ka_fairseq.ranges import Range


@dataclass
class ChunkOptions:
    """Option of criterions that compute their loss in chunks, see :mod:`ka_fairseq.loss.chunks`."""

    loss_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "number of target positions whose logits are held at a time; 0 chooses by the "
            "vocabulary size and the device; changes memory and speed, the loss by rounding only",
            "valid": Range(0),
        },
    )
