"""``--on-policy-fraction f``: the decoder reads the student's own translations.

The seed and the update's number decide whether an update is on-policy. All workers and batches of
an update agree, so no worker waits while another worker translates. The sampled tokens depend on
the seed, the update's number and the batch's sentences, and on no earlier random numbers. So a
resumed run gives the same result as an uninterrupted run.
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

# The logarithm of a tiny probability, which is still above 0 in float32.
LEAST = -80.0


@dataclass
class OnPolicyConfig(FairseqDataclass):
    """Options for the student's own translations."""

    on_policy_fraction: float = field(
        default=0.0,
        metadata={
            "help": "share of the updates, from 0 to 1, that compute D on the student's own "
            "translations, without an NLL; validation reads the references",
            "valid": Range(0, 1),
        },
    )
    on_policy_temperature: float = field(
        default=1.0,
        metadata={
            "help": "sampling temperature of on-policy translations; 0 takes the best tokens",
            "valid": Range(0),
        },
    )
    on_policy_keep_nll: bool = field(
        default=False,
        metadata={"help": "take the NLL of the references in on-policy updates, too"},
    )
    on_policy_max_len_a: float = field(
        default=1.2,
        metadata={
            "help": "a: on-policy translations end after at most ax + b tokens, where x is the "
            "length of the batch's longest source",
            "valid": Range(0),
        },
    )
    on_policy_max_len_b: int = field(
        default=10,
        metadata={
            "help": "b: on-policy translations end after at most ax + b tokens, where x is the "
            "length of the batch's longest source",
            "valid": Range(1),
        },
    )
    # The value of fairseq's own --seed; the task has no option of this name.
    seed: int = II("common.seed")


def check_has_sources(cfg: OnPolicyConfig, translates: bool) -> None:
    """Check that the task has sources to translate.

    Args:
        cfg: the options.
        translates: whether the task has sources.

    Raises:
        UserError: on-policy updates are asked for, and the task has no sources.
    """
    if cfg.on_policy_fraction and not translates:
        raise UserError(
            "--on-policy-fraction needs sources to translate, and a language model has no sources: "
            "leave out --on-policy-fraction"
        )


def is_on_policy(cfg: OnPolicyConfig, update: int) -> bool:
    """Return whether an update is on-policy, with probability ``cfg.on_policy_fraction``."""
    return number_from(cfg.seed, update) < cfg.on_policy_fraction * 2**63


def number_from(*parts: int) -> int:
    """Return a pseudo-random number below 2⁶³, which depends only on the parts."""
    sequence = np.random.SeedSequence([part % 2**64 for part in parts])
    return int(sequence.generate_state(1, np.uint64)[0]) >> 1


def on_policy_views(
    task: FairseqTask, sample: Mapping[str, Any], model: nn.Module, update: int, prefix: int = 0
) -> Iterator[View]:
    """Yield a view of the student's own translations, with D scaled to the references' length.

    D is multiplied by the number of reference tokens, and divided by the number of translation
    tokens. So D has the same weight as in other updates, even if the translations are long.

    Args:
        task: a translation task with :class:`OnPolicyConfig`.
        sample: fairseq's batch.
        model: the student, wrapped or not.
        update: the update's number.
        prefix: each translation begins with this many first tokens of its reference.
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
    """Translate each sentence by fairseq's generator, without dropout and gradient.

    No translation is empty. A translation ends at the length limit, or at the length of the longest
    input that the model can read. The state of the global random generators is restored.

    Args:
        task: builds the generator.
        sample: fairseq's batch.
        model: the student, unwrapped; its training mode is restored.
        seed: the seed of the sampling.
        prefix: each translation begins with this many first tokens of its reference.

    Returns:
        The tokens of each sentence. The last token is the end of the sentence.
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
    # Autocast keeps half-precision copies of the weights for the next forward pass. These copies
    # have no gradient, so they are dropped here.
    torch.clear_autocast_cache()
    return [best["tokens"] for best, *_ in translations]


class _Sampling(search.Sampling):
    """fairseq's sampling, which here raises no error if all allowed probabilities round to 0.

    At the length limit, only the end of the sentence is allowed. Its probability can round to 0,
    mostly at a low temperature. fairseq then stops with an error.
    """

    def step(self, step: int, lprobs: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Draw a token for each sentence."""
        likely = lprobs.clamp(min=LEAST).masked_fill(lprobs.eq(-math.inf), -math.inf)
        return super().step(step, likely, *others)


def with_translations(
    sample: Mapping[str, Any], translations: Sequence[Tensor], dictionary: Any, left_pad: bool
) -> dict[str, Any]:
    """Return the batch with translations as targets, collated as fairseq does.

    The given batch does not change.

    Args:
        sample: fairseq's batch.
        translations: the tokens of each sentence; the last token is the end of the sentence.
        dictionary: the dictionary of the target language.
        left_pad: whether targets are padded on the left.
    """
    collate = functools.partial(
        data_utils.collate_tokens, translations, dictionary.pad(), dictionary.eos(), left_pad
    )
    changed = with_decoder_input(sample, collate(move_eos_to_beginning=True))
    return changed | {"target": collate(), "ntokens": sum(map(len, translations))}


def log_share() -> None:
    """Log the share of the training time that was spent on translating, between 0 and 1."""
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
