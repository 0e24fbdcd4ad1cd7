"""How large the pieces are that a loss is made in."""

from dataclasses import dataclass, field

from ka_fairseq.ranges import Range


@dataclass
class ChunkOptions:
    """For each criterion whose loss goes by chunks, see :mod:`ka_fairseq.loss.chunks`."""

    loss_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "target positions whose logits are held at a time; 0 chooses by the "
            "number of types and the device; changes memory and speed, the loss to rounding only",
            "valid": Range(0),
        },
    )
