"""``--on-policy-fraction f``: the decoder reads the learner's own translations.

Whether an update is on-policy depends on the seed and the update's number, and is the same for all
workers and batches of it, so that no worker waits for another that translates. What is sampled
depends on these and the batch's sentences: not on what drew random numbers before, so a training
that is resumed goes on as it would have.
"""

import contextlib
import functools
import math
from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from fairseq import search, utils
from fairseq.data import data_utils
from fairseq.dataclass import FairseqDataclass
from fairseq.logging import metrics
from fairseq.tasks import FairseqTask
from omegaconf import II
from torch import Tensor, nn

from ka_fairseq.errors import UserError
from ka_fairseq.models import unwrap
from ka_fairseq.ranges import Range
from ka_fairseq.tasks.views import View, with_decoder_input

# The log of a probability that is above 0 in float32, and nothing beside those that count.
LEAST = -80.0


@dataclass
class OnPolicyConfig(FairseqDataclass):
    """How often, and how, the learner's own translations are made."""

    on_policy_fraction: float = field(
        default=0.0,
        metadata={
            "help": "share of the updates in which D is taken on the learner's own translations, "
            "without an NLL, from 0 to 1; validation reads the references",
            "valid": Range(0, 1),
        },
    )
    on_policy_temperature: float = field(
        default=1.0,
        metadata={
            "help": "temperature at which they are sampled; 0 takes the best token each time",
            "valid": Range(0),
        },
    )
    on_policy_keep_nll: bool = field(
        default=False,
        metadata={"help": "take the NLL of the references in these updates, too"},
    )
    on_policy_max_len_a: float = field(
        default=1.2,
        metadata={
            "help": "they end after at most ax + b tokens, x the batch's longest source",
            "valid": Range(0),
        },
    )
    on_policy_max_len_b: int = field(
        default=10,
        metadata={
            "help": "they end after at most ax + b tokens, x the batch's longest source",
            "valid": Range(1),
        },
    )
    # No option of its own: fairseq's, passed on.
    seed: int = II("common.seed")


def check_has_sources(cfg: OnPolicyConfig, translates: bool) -> None:
    """Check that there is something to translate.

    Args:
        cfg: the options.
        translates: whether the task has sources.

    Raises:
        UserError: the task has none.
    """
    if cfg.on_policy_fraction and not translates:
        raise UserError(
            "--on-policy-fraction needs sources to translate, and a language model has none: "
            "leave it out"
        )


def is_on_policy(cfg: OnPolicyConfig, update: int) -> bool:
    """Whether an update is on-policy: with probability ``cfg.on_policy_fraction``."""
    return number_from(cfg.seed, update) < cfg.on_policy_fraction * 2**63


def number_from(*parts: int) -> int:
    """A number below 2⁶³ that depends on all parts, and on nothing else."""
    sequence = np.random.SeedSequence([part % 2**64 for part in parts])
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def on_policy_views(
    task: FairseqTask, sample: Mapping[str, Any], model: nn.Module, update: int, prefix: int = 0
) -> Iterator[View]:
    """D on the learner's own translations, whatever their length, as if they had the references'.

    So D weighs as much beside the NLL, and beside batches that are not on-policy, as it does there,
    and a learner that rambles is not taught the more for it.

    Args:
        task: a translation task with :class:`OnPolicyConfig`.
        sample: fairseq's batch.
        model: the learner, wrapped or not.
        update: the update's number.
        prefix: how many first tokens of each reference are given.
    """
    seed = number_from(task.cfg.seed, update, *sample["id"].tolist())
    translations = translate(task, sample, unwrap(model), seed, prefix)
    read = with_translations(sample, translations, task.target_dictionary, task.cfg.left_pad_target)
    if task.cfg.on_policy_keep_nll:
        yield View(sample, transfer_share=0.0)
    yield View(read, nll_share=0.0, transfer_share=sample["ntokens"] / read["ntokens"])


def translate(
    task: FairseqTask, sample: Mapping[str, Any], model: nn.Module, seed: int, prefix: int = 0
) -> list[Tensor]:
    """A translation of each sentence by fairseq's generator, without dropout and gradient.

    None is empty, and one that reaches the limit, or the longest that the model can read, ends
    there. Random numbers elsewhere stay what they would have been.

    Args:
        task: builds the generator.
        sample: fairseq's batch.
        model: the learner, unwrapped; left in the mode that it was in.
        seed: of the sampling.
        prefix: how many first tokens of each reference are given.

    Returns:
        Tokens of each sentence, the last of them the end of the sentence.
    """
    cfg = task.cfg
    options = Namespace(
        beam=1,
        temperature=cfg.on_policy_temperature or 1.0,
        max_len_a=cfg.on_policy_max_len_a,
        max_len_b=cfg.on_policy_max_len_b,
    )
    given = sample["target"][:, :prefix] if prefix else None
    with _timed(), _evaluating(model), utils.set_torch_seed(seed):
        generator = task.build_generator([model], options)
        if cfg.on_policy_temperature:
            generator.search = _Sampling(task.target_dictionary)
        translations = task.inference_step(generator, [model], sample, prefix_tokens=given)
    # Under autocast, half-precision copies of the weights are kept for the forward pass that comes
    # next; these were made without a gradient.
    torch.clear_autocast_cache()
    return [best["tokens"] for best, *_ in translations]


class _Sampling(search.Sampling):
    """fairseq's, where all that may be chosen has a probability that rounds to 0, too.

    At the limit of the length the end of the sentence alone may be chosen, and fairseq stops with
    an error where it is that improbable, at a low temperature mostly.
    """

    def step(self, step: int, lprobs: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a token for each sentence."""
        likely = lprobs.clamp(min=LEAST).masked_fill(lprobs.eq(-math.inf), -math.inf)
        return super().step(step, likely, *others)


def with_translations(
    sample: Mapping[str, Any], translations: Sequence[Tensor], dictionary: Any, left_pad: bool
) -> dict[str, Any]:
    """The same sources with other targets, collated as fairseq does; the sample stays as it is.

    Args:
        sample: fairseq's batch.
        translations: tokens of each sentence, the last of them the end of the sentence.
        dictionary: of the target language.
        left_pad: whether targets are filled up on the left.
    """
    collate = functools.partial(
        data_utils.collate_tokens, translations, dictionary.pad(), dictionary.eos(), left_pad
    )
    changed = with_decoder_input(sample, collate(move_eos_to_beginning=True))
    return changed | {"target": collate(), "ntokens": sum(map(len, translations))}


def log_share() -> None:
    """Have the share of the training's time that was spent translating logged, between 0 and 1."""
    metrics.log_derived("generate_share", _share, priority=810)


def _share(meters: Mapping[str, Any]) -> float:
    generating, training = (meters.get(name) for name in ("generate_wall", "train_wall"))
    if generating is None or training is None or not training.sum:
        return 0.0
    return round(generating.sum / training.sum, 3)


@contextlib.contextmanager
def _timed() -> Iterator[None]:
    metrics.log_start_time("generate_wall", priority=805, round=0)
    yield
    metrics.log_stop_time("generate_wall")


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
