"""The section `translate` of ``pair.yaml``: how a teacher translates, and what is filtered out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.engine.errors import PipelineError

FAIRSEQ = "fairseq-generate"
ENGINES = ("auto", "ctranslate2", FAIRSEQ)
QUANTIZATIONS = ("float32", "float16", "int8", "int8_float32")

NEARNESS = ("chrf", "bleu")

# Settings that do not change searched translations, except by rounding (max_tokens).
_NO_INPUTS = {"max_tokens", "filters", "nearness", "sampling"}
_OF_SEARCH = {"beam", "n_best", "lenpen"}


@dataclass(frozen=True)
class Filters:
    """Which translations are left out; None or False switches a filter off.

    Attributes:
        max_ratio: leave out a pair if one side has more than this many times the subwords of the
            other side. The end of the sentence counts as a subword.
        max_repeats: count the most frequent run of four subwords in source and translation. Leave
            out a translation if its count is greater by at least this number (Raunak et al. 2021:
            hallucinations that oscillate).
        drop_copies: leave out a translation that is equal to its source.
        drop_duplicates: leave out a pair that occurred before.
    """

    max_ratio: float | None = 3.0
    max_repeats: int | None = 2
    drop_copies: bool = True
    drop_duplicates: bool = True


@dataclass(frozen=True)
class Sampling:
    """How samples are drawn. `mbr_samples` chooses among the samples (Eikema & Aziz 2022).

    Attributes:
        samples: the number of samples for each sentence.
        top_p: draw from the smallest set of subwords with at least this probability (Holtzman et
            al. 2020); 1: draw from all subwords.
        temperature: logits are divided by the temperature.
        seed: the seed of the first shard; each further shard has the next seed.
    """

    samples: int = 16
    top_p: float = 1.0
    temperature: float = 1.0
    seed: int = 1

    def check(self) -> None:
        """Check that samples can be drawn.

        Raises:
            PipelineError: a value is invalid.
        """
        if self.samples < 2:
            raise PipelineError("translate.sampling.samples in pair.yaml: give a number from 2 up")
        if not 0 < self.top_p <= 1:
            raise PipelineError("translate.sampling.top_p in pair.yaml: above 0 and at most 1")
        if self.temperature <= 0 or self.seed < 0:
            raise PipelineError(
                "translate.sampling in pair.yaml: temperature must be above 0, seed 0 or more"
            )


@dataclass(frozen=True)
class Recipe:
    """How a teacher translates the training text.

    Attributes:
        beam: width of the search.
        n_best: the number of translations to keep for each sentence.
        lenpen: scores are divided by the length to this power.
        max_len_a: a translation has at most ``max_len_a`` × subwords of the longest source of its
            batch + ``max_len_b``.
        max_len_b: see `max_len_a`.
        max_length: sentences with more subwords are not translated.
        shard: sentences per file; an interrupted run loses at most one file.
        max_tokens: source subwords per batch.
        engine: one of `ENGINES`; auto: CTranslate2 for models that it can express.
        quantization: one of `QUANTIZATIONS`, for CTranslate2.
        nearness: one of `NEARNESS`: `closest` and `mbr` choose by sentence chrF or sentence BLEU.
        filters: which translations are left out of the training text.
        sampling: how samples are drawn, if a model is trained on samples.
    """

    beam: int = 5
    n_best: int = 5
    lenpen: float = 1.0
    max_len_a: float = 1.5
    max_len_b: int = 20
    max_length: int = 250
    shard: int = 2000
    max_tokens: int = 4000
    engine: str = "auto"
    quantization: str = "float32"
    nearness: str = "chrf"
    filters: Filters = field(default_factory=Filters)
    sampling: Sampling = field(default_factory=Sampling)

    @classmethod
    def load(cls, section: Any, changes: Any = None) -> Recipe:
        """Read the section.

        Args:
            section: the content in YAML.
            changes: settings that replace those of `section`.

        Raises:
            PipelineError: a key is unknown, or a value is invalid.
        """
        section = {**_mapping(section, "translate"), **_mapping(changes, "translate")}
        parts = {
            key: _read(kind, _mapping(section.pop(key, None), f"translate.{key}"))
            for key, kind in (("filters", Filters), ("sampling", Sampling))
        }
        return _read(cls, section, **parts)._checked()

    @property
    def inputs(self) -> dict[str, Any]:
        """What the translations depend on."""
        found = dataclasses.asdict(self)
        return {f"translate.{key}": found[key] for key in found if key not in _NO_INPUTS}

    @property
    def inputs_of_samples(self) -> dict[str, Any]:
        """What the samples depend on."""
        found = {f"sampling.{k}": v for k, v in dataclasses.asdict(self.sampling).items()}
        left = {f"translate.{key}" for key in _OF_SEARCH}
        return found | {key: value for key, value in self.inputs.items() if key not in left}

    def _checked(self) -> Recipe:
        for key in ("beam", "n_best", "max_length", "shard", "max_tokens"):
            if getattr(self, key) < 1:
                raise PipelineError(f"translate.{key} in pair.yaml: give a number from 1 up")
        self.sampling.check()
        choices = {"engine": ENGINES, "quantization": QUANTIZATIONS, "nearness": NEARNESS}
        for key, known in choices.items():
            if getattr(self, key) not in known:
                raise PipelineError(
                    f"translate.{key} {getattr(self, key)} in pair.yaml: choose from "
                    f"{', '.join(known)}"
                )
        if self.n_best > self.beam:
            raise PipelineError(
                f"translate in pair.yaml: a beam of {self.beam} finds no {self.n_best} "
                "translations: raise beam, or lower n_best"
            )
        if self.max_length > self.max_tokens:
            raise PipelineError(
                f"translate in pair.yaml: a sentence of {self.max_length} subwords (max_length) "
                f"does not fit a batch of {self.max_tokens} (max_tokens)"
            )
        return self


def _mapping(section: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(section or {}, Mapping):
        raise PipelineError(f"{name} in pair.yaml: give settings, not {section!r}")
    return section or {}


def _read(kind: type, section: Mapping[str, Any], **more: Any) -> Any:
    """Return a dataclass with the values of a YAML section, after a check of keys and types."""
    defaults = {f.name: f.default for f in dataclasses.fields(kind) if f.name not in more}
    for key, value in section.items():
        if key not in defaults:
            raise PipelineError(
                f"translate in pair.yaml: no {key}: choose from {', '.join((*defaults, *more))}"
            )
        _check_type(key, value, defaults[key], off=kind is Filters)
    return kind(**section, **more)


def _check_type(key: str, value: Any, default: Any, *, off: bool) -> None:
    if off and value is None:
        return
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        bool: isinstance(value, bool),
        float: number,
        int: number and isinstance(value, int),
        str: isinstance(value, str),
    }[type(default)]
    if not fits:
        raise PipelineError(f"translate.{key} in pair.yaml: {value!r} is not like {default!r}")
