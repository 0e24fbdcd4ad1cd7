"""How large the pieces are that a loss is made in."""

from dataclasses import dataclass, field

from ka_fairseq.errors import UserError


@dataclass
class ChunkOptions:
    """For each criterion whose loss goes by chunks, see :mod:`ka_fairseq.loss.chunks`."""

    loss_chunk_tokens: int = field(
        default=0,
        metadata={
            "help": "target positions whose logits are held at a time; 0 chooses by the "
            "number of types and the device; changes memory and speed, the loss to rounding only"
        },
    )


def check(cfg: ChunkOptions) -> None:
    """Refuse what is out of range.

    Raises:
        UserError: the number is negative.
    """
    if cfg.loss_chunk_tokens < 0:
        raise UserError(f"--loss-chunk-tokens must be 0 or more, not {cfg.loss_chunk_tokens}")
