"""The measured sizes: the pairs, and fairseq's options from their configs."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml
from pipeline.models.settings import CONFIGS, REPOSITORY, USER_DIR, load
from pipeline.stages import trainings

from ka_fairseq.errors import UserError

CRITERIONS = ("forward_kl", "backward_kl", "jsd_mixture", "topk_kl")
# Measured only if named, and without a plain reference: their changes to backward_kl.
MORE = {
    **{
        name: {"_name": "transfer", "divergence": name}
        for name in (
            "js",
            "skew_forward_kl",
            "skew_backward_kl",
            "tvd",
            "alpha_beta",
            "adaptive_kl",
        )
    },
    "hard-batch": {"select": "hard-batch"},
    "hard-global": {"select": "hard-global"},
    "tie_kd": {"_name": "tie_kd"},
}
# Measured only if named, beside fairseq's cross-entropy; it has no variants.
WITHOUT_TEACHER = "chunked_cross_entropy"
# The number of decoder passes.
PASSES = {"tie_kd": 3}
ALL_CRITERIONS = (*CRITERIONS, *MORE, WITHOUT_TEACHER)
VARIANTS = ("plain", "chunked", "cached")
# Variants that are measured only if named: chunked with this --loss-kernel.
KERNELS = ("eager", "compiled", "triton")
QUICK_MODEL = {"layers": 1, "embed_dim": 32, "ffn_embed_dim": 64, "attention_heads": 2}


@dataclass(frozen=True)
class Lengths:
    """Subwords a sentence, with its end: a log-normal distribution for each side, correlated.

    Attributes:
        source_mean: mean length of the source.
        target_mean: mean length of the target.
        source_sigma: standard deviation of the logarithm of the source length.
        target_sigma: the same for the target length.
        correlation: correlation of the two logarithms.
    """

    source_mean: float
    target_mean: float
    source_sigma: float
    target_sigma: float
    correlation: float


@dataclass(frozen=True)
class PairSizes:
    """The defaults of a pair.

    Attributes:
        languages: source and target.
        types: V.
        cpu_tokens: tokens a batch on a CPU, as fairseq's ``--max-tokens`` counts them.
        cpu_steps: timed steps of a process on a CPU.
        lengths: the lengths of its sentences.
    """

    languages: tuple[str, str]
    types: int
    cpu_tokens: int
    cpu_steps: int
    lengths: Lengths


PAIRS = {
    # Spread and correlation: fitted to 3,394 pairs of Tatoeba's Thai–English sentences in
    # sentencepiece BPE. These sentences are far shorter than talks (9 subwords of English). A word
    # count of IWSLT'15 was not found, so the means are an assumption.
    "iwslt15_th_en": PairSizes(
        ("th", "en"), 10_000, 2048, 8, Lengths(20.0, 20.0, 0.37, 0.31, 0.58)
    ),
    # Means: words a sentence of Europarl v7, plus one for the sentence's end. The counts are from
    # statmt.org/europarl (47,236,849 German words in 2,176,537 sentences, 53,974,751 English words
    # in 2,218,201). Spread and correlation: fitted to tests/data/libreoffice-help in sentencepiece
    # BPE, whose sentences are as mixed as a crawl's sentences.
    "wmt17_de_en": PairSizes(("de", "en"), 40_000, 512, 4, Lengths(22.7, 25.3, 0.63, 0.60, 0.93)),
}
CUDA_TOKENS, CUDA_STEPS = 8192, 40


def model_options(pair: str, role: str, quick: bool) -> list[str]:
    """Return fairseq's options for the paper's Table 1; the role is learner or teacher."""
    path = CONFIGS / pair / "model" / f"{role}.yaml"
    settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    if quick:
        settings |= {
            f"{side}_{size}": value
            for side in ("encoder", "decoder")
            for size, value in QUICK_MODEL.items()
        }
    return ["--arch", settings["_name"], *_options(settings)]


def criterion_options(pair: str, criterion: str) -> list[str]:
    """Return fairseq's options for a criterion, with λ, label smoothing and k of the pair.

    ``cross_entropy`` is fairseq's label_smoothed_cross_entropy. Both it and its chunked form have
    the label smoothing of the other criterions.

    Raises:
        UserError: no model of the pair has the criterion, or none has backward_kl.
    """
    found = criterions_of(pair)
    if "backward_kl" not in found:
        raise UserError(f"no model of {pair} has backward_kl: choose from {', '.join(found)}")
    known = found | {name: found["backward_kl"] | change for name, change in MORE.items()}
    smoothing = {"label_smoothing": found["backward_kl"]["label_smoothing"]}
    known["cross_entropy"] = {"_name": "label_smoothed_cross_entropy"} | smoothing
    known[WITHOUT_TEACHER] = {"_name": WITHOUT_TEACHER} | smoothing
    if criterion not in known:
        raise UserError(f"no model of {pair} has {criterion}: choose from {', '.join(found)}")
    return ["--criterion", known[criterion]["_name"], *_options(known[criterion])]


@functools.cache
def criterions_of(pair: str) -> dict[str, dict[str, Any]]:
    """Return the first model's settings for each criterion, in the order of the list of models."""
    found: dict[str, dict[str, Any]] = {}
    prefix = "criterion."
    settings = load(CONFIGS / pair, REPOSITORY / "runs")
    for training in trainings(settings):
        if training.teacher:
            resolved = training.resolved(settings)
            options = {
                key.removeprefix(prefix): value
                for key, value in resolved.items()
                if key.startswith(prefix)
            }
            found.setdefault(options["_name"], options)
    return found


def task_options(pair: str) -> list[str]:
    """Return fairseq's options for the task, without the teacher's options."""
    source, target = PAIRS[pair].languages
    return [
        *("--user-dir", str(USER_DIR), "--task", "translation_with_teacher"),
        *("--source-lang", source, "--target-lang", target),
    ]


def _options(settings: Mapping[str, Any]) -> list[str]:
    options = []
    for key, value in settings.items():
        if key == "_name" or value is False:
            continue
        options.append("--" + key.replace("_", "-"))
        if value is not True:
            options.append(str(value))
    return options
