"""What a task reads: dictionaries, length limits and what its samples are, of both kinds of task.

A translation task has pairs of sentences, a language model's task blocks of running text.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from fairseq.data import Dictionary, FairseqDataset, MonolingualDataset
from fairseq.tasks.language_modeling import LanguageModelingTask


class Limit(NamedTuple):
    """How many tokens a task lets through.

    Attributes:
        what: which tokens they are.
        tokens: how many.
        option: the option that sets it.
    """

    what: str
    tokens: int
    option: str


def is_language_modeling(task: Any) -> bool:
    """Whether a task is a language model's; all others are taken for translation."""
    return isinstance(task, LanguageModelingTask)


def dictionaries(task: Any) -> list[tuple[str, Dictionary]]:
    """A task's dictionaries, by the names of their files in a binarized folder."""
    if is_language_modeling(task):
        return [("dict.txt", task.source_dictionary)]
    return [
        (f"dict.{task.cfg.source_lang}.txt", task.source_dictionary),
        (f"dict.{task.cfg.target_lang}.txt", task.target_dictionary),
    ]


def limits(task: Any) -> list[Limit]:
    """The longest samples of a task, one limit for each part of a sample."""
    if not is_language_modeling(task):
        sides = zip(("source", "target"), task.max_positions(), strict=True)
        return [Limit(f"{side} tokens", most, f"--max-{side}-positions") for side, most in sides]
    # As fairseq's language models have it; the task itself knows no limit.
    if task.args.max_target_positions is not None:
        return [Limit("tokens", task.args.max_target_positions, "--max-target-positions")]
    return [Limit("tokens", task.args.tokens_per_sample, "--tokens-per-sample")]


def max_positions(task: Any) -> int | tuple[int, ...]:
    """The limits in the form that fairseq filters datasets by."""
    most = tuple(limit.tokens for limit in limits(task))
    return most if len(most) > 1 else most[0]


def sample_name(dataset: FairseqDataset) -> str:
    """What messages call a sample."""
    return "block" if isinstance(dataset, MonolingualDataset) else "pair"


def lengths(dataset: FairseqDataset) -> list[np.ndarray]:
    """How many tokens each part of each sample has, the target positions last."""
    if isinstance(dataset, MonolingualDataset):
        # fairseq counts the tokens before it prepends one.
        return [dataset.sizes.astype(np.int64) + int(dataset.add_bos_token)]
    return [dataset.src_sizes, dataset.tgt_sizes]
