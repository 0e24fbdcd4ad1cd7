"""Sentences of about one length, translated together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized


def batches(found: Mapping[int, Sized], max_tokens: int) -> Iterator[list[int]]:
    """Yield lines of sentences of about one length, as many as make `max_tokens` with padding.

    Args:
        found: the subwords of each line.
        max_tokens: how many subwords a batch has at most, padding counted in; one sentence is a
            batch, however long the sentence is.
    """
    batch: list[int] = []
    for line in sorted(found, key=lambda line: (len(found[line]), line)):
        if batch and (len(batch) + 1) * len(found[line]) > max_tokens:
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch
