"""How models are decoded: the section `decoding` of ``pair.yaml``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.errors import PipelineError

AUTO = "auto"
BEAMS = (6, 1)


@dataclass(frozen=True)
class Decoding:
    """How trained models translate, and how their subwords become words again.

    Attributes:
        beams: beam sizes. The exported models are scored and measured at each; fairseq-generate
            scores at the first.
        lenpen: the length penalty: hypotheses are compared by log-probability / length **
            `lenpen`. None: chosen on validation for each model (see `pipeline.models.lenpen`).
        remove_bpe: fairseq-generate's option of this name.
        batch_size: sentences per batch of fairseq-generate.
        tokenizer: the tokenizer that detokenizes the translations, or None.
    """

    beams: tuple[int, ...] = BEAMS
    lenpen: float | None = None
    remove_bpe: str = "sentencepiece"
    batch_size: int = 128
    tokenizer: str | None = None

    @classmethod
    def load(cls, section: Any, path: Path) -> Decoding:
        """Read the section.

        Args:
            section: the content in YAML; `beam` with one number may replace `beams`.
            path: the file with the section, for errors.

        Raises:
            PipelineError: a field is unknown, or a value is invalid.
        """
        where = f"{path}: decoding"
        known = ("beams", "beam", "lenpen", "remove_bpe", "batch_size", "tokenizer")
        if not isinstance(section, Mapping):
            raise PipelineError(f"{where}: give {', '.join(known)}")
        if unknown := [key for key in section if key not in known]:
            raise PipelineError(f"{where} has no {unknown[0]}: choose from {', '.join(known)}")
        if {"beam", "beams"} <= section.keys():
            raise PipelineError(f"{where} has beam and beams: give beams alone")
        found = {key: value for key, value in section.items() if key not in ("beam", "beams")}
        found["beams"] = _beams(section, where)
        found["lenpen"] = _lenpen(section.get("lenpen", AUTO), where)
        if not _counts(found.get("batch_size", 1)):
            raise PipelineError(f"{where}.batch_size: give a whole number from 1 up")
        return cls(**found)

    @property
    def beam(self) -> int:
        """The first beam."""
        return self.beams[0]

    def inputs(self, lenpen: float) -> dict[str, Any]:
        """Return what fairseq-generate's translations with this length penalty depend on."""
        found = {
            "beam": self.beam,
            "lenpen": lenpen,
            "remove_bpe": self.remove_bpe,
            "batch_size": self.batch_size,
        }
        return {**found, **({"tokenizer": self.tokenizer} if self.tokenizer else {})}


def _beams(section: Mapping[str, Any], where: str) -> tuple[int, ...]:
    key = "beam" if "beam" in section else "beams"
    found = section.get(key, BEAMS)
    found = tuple(found) if isinstance(found, Sequence) and key == "beams" else (found,)
    if not found or not all(map(_counts, found)) or len(set(found)) < len(found):
        example = "a whole number from 1 up, as 6"
        if key == "beams":
            example = "different whole numbers from 1 up, the paper's first, as [6, 1]"
        raise PipelineError(f"{where}.{key}: {section[key]} is no choice: give {example}")
    return found


def _lenpen(value: Any, where: str) -> float | None:
    if value == AUTO:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise PipelineError(f"{where}.lenpen: {value} is no number: give one, as 1.0, or {AUTO}")
    return value


def _counts(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
