"""Group sentences of similar length into batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sized


def batches(found: Mapping[int, Sized], max_tokens: int) -> Iterator[list[int]]:
    """Yield the line numbers of each batch. The sentences of a batch have similar lengths.

    Args:
        found: the subwords of each line.
        max_tokens: the greatest number of subwords in a batch, padding included. A longer sentence
            is a batch of its own.
    """
    batch: list[int] = []
    for line in sorted(found, key=lambda line: (len(found[line]), line)):
        if batch and (len(batch) + 1) * len(found[line]) > max_tokens:
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch
