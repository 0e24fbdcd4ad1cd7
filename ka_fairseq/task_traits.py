"""Properties of a task: its dictionaries, its length limits and its kind of samples.

A translation task reads pairs of sentences. A language model's task reads blocks of running text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from fairseq.data import Dictionary, FairseqDataset, MonolingualDataset
from fairseq.tasks.language_modeling import LanguageModelingTask


class Limit(NamedTuple):
    """A limit on the length of a sample.

    Attributes:
        what: the tokens that the limit counts.
        tokens: the greatest number of tokens.
        option: the option that sets the limit.
    """

    what: str
    tokens: int
    option: str


def is_language_modeling(task: Any) -> bool:
    """Return whether a task trains a language model. All other tasks count as translation."""
    return isinstance(task, LanguageModelingTask)


def dictionaries(task: Any) -> list[tuple[str, Dictionary]]:
    """Return a task's dictionaries, each with the name of its file in a data-bin."""
    if is_language_modeling(task):
        return [("dict.txt", task.source_dictionary)]
    return [
        (f"dict.{task.cfg.source_lang}.txt", task.source_dictionary),
        (f"dict.{task.cfg.target_lang}.txt", task.target_dictionary),
    ]


def limits(task: Any) -> list[Limit]:
    """Return the length limits of a task, one for each part of a sample."""
    if not is_language_modeling(task):
        sides = zip(("source", "target"), task.max_positions(), strict=True)
        return [Limit(f"{side} tokens", most, f"--max-{side}-positions") for side, most in sides]
    # The limit of fairseq's language models; the task itself has no limit.
    if task.args.max_target_positions is not None:
        return [Limit("tokens", task.args.max_target_positions, "--max-target-positions")]
    return [Limit("tokens", task.args.tokens_per_sample, "--tokens-per-sample")]


def max_positions(task: Any) -> int | tuple[int, ...]:
    """Return the limits in the form in which fairseq filters datasets."""
    most = tuple(limit.tokens for limit in limits(task))
    return most if len(most) > 1 else most[0]


def sample_name(dataset: FairseqDataset) -> str:
    """Return the word for a sample in messages."""
    return "block" if isinstance(dataset, MonolingualDataset) else "pair"


def lengths(dataset: FairseqDataset) -> list[np.ndarray]:
    """Return the number of tokens in each part of each sample; target positions come last."""
    if isinstance(dataset, MonolingualDataset):
        # fairseq counts the tokens before it prepends one.
        return [dataset.sizes.astype(np.int64) + int(dataset.add_bos_token)]
    return [dataset.src_sizes, dataset.tgt_sizes]
