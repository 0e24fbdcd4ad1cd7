"""Draw synthetic sentences of realistic lengths, in batches as fairseq forms them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import torch
from fairseq.data import data_utils, indexed_dataset

from benchmark.sizes import Lengths

PAIRS_DRAWN = 100_000  # enough for batches as even as in a real training set
LONGEST = 250
SPECIAL = 4  # fairseq's own symbols, which are not in a dictionary's file
END = 2


def draw_lengths(lengths: Lengths, longest: int, generator: np.random.Generator) -> np.ndarray:
    """Return source and target lengths, shape (pairs, 2), in fairseq's order of a training set."""
    sigma = np.array([lengths.source_sigma, lengths.target_sigma])
    # The mean of a log-normal is exp(μ + σ²/2).
    mu = np.log([lengths.source_mean, lengths.target_mean]) - sigma**2 / 2
    shared = lengths.correlation * sigma.prod()
    covariance = np.array([[sigma[0] ** 2, shared], [shared, sigma[1] ** 2]])
    drawn = np.exp(generator.multivariate_normal(mu, covariance, PAIRS_DRAWN))
    sizes = np.clip(np.rint(drawn), 2, min(LONGEST, longest)).astype(np.int64)
    return sizes[np.lexsort((sizes[:, 1], sizes[:, 0]))]


def choose_batches(sizes: np.ndarray, max_tokens: int, count: int) -> list[np.ndarray]:
    """Return ``count`` of fairseq's batches, short to long, at equal distances.

    Returns:
        The lengths of each batch's sentences, shape (sentences, 2).
    """
    batches = data_utils.batch_by_size(
        np.arange(len(sizes)), None, num_tokens_vec=sizes.max(1), max_tokens=max_tokens
    )
    places = (np.arange(count) + 0.5) / count * len(batches)
    return [sizes[batches[int(place)]] for place in places]


def draw_tokens(length: int, types: int, generator: np.random.Generator) -> torch.Tensor:
    """Return a sentence by Zipf's law (frequency ∝ 1/rank), shape (length,), with its end."""
    words = types - SPECIAL
    ranks = np.exp(generator.random(length - 1) * math.log(words)).astype(np.int64) - 1
    return torch.from_numpy(np.append(ranks + SPECIAL, END)).int()


def write(
    folder: Path,
    languages: tuple[str, str],
    types: int,
    batches: list[np.ndarray],
    generator: np.random.Generator,
) -> list[list[int]]:
    """Write dictionaries and fairseq's binarized train and valid sets.

    Args:
        folder: the output folder.
        languages: source and target.
        types: the size of the dictionaries, with fairseq's own symbols.
        batches: the batches of :func:`choose_batches`.
        generator: the generator for the tokens.

    Returns:
        The indices of the training pairs of each batch.
    """
    folder.mkdir(parents=True)
    symbols = "".join(f"type{number} 1\n" for number in range(types - SPECIAL))
    splits = {"train": np.concatenate(batches), "valid": batches[0][:1]}
    for side, language in enumerate(languages):
        (folder / f"dict.{language}.txt").write_text(symbols, encoding="utf-8")
        for split, sizes in splits.items():
            prefix = str(folder / f"{split}.{'-'.join(languages)}.{language}")
            file = indexed_dataset.data_file_path(prefix)
            builder = indexed_dataset.make_builder(file, impl="mmap", vocab_size=types)
            for length in sizes[:, side]:
                builder.add_item(draw_tokens(length, types, generator))
            builder.finalize(indexed_dataset.index_file_path(prefix))
    starts = np.cumsum([0, *map(len, batches)]).tolist()
    return [list(range(*ends)) for ends in itertools.pairwise(starts)]
