"""How a teacher translates: fairseq-generate's options, and which of them CTranslate2 has."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from fairseq.dataclass.configs import GenerationConfig

from ka_fairseq.errors import UserError

# Of GenerationConfig; the others print, score or force something, which is no business of this.
OPTIONS = (
    *("beam", "nbest", "lenpen", "unnormalized", "max_len_a", "max_len_b", "min_len"),
    *("no_repeat_ngram_size", "unkpen", "temperature"),
    *("sampling", "sampling_topk", "sampling_topp"),
    *("diverse_beam_groups", "diverse_beam_strength", "diversity_rate"),
)
_ONLY_FAIRSEQ = ("unkpen", "diverse_beam_groups", "diversity_rate")
_DEFAULTS = {field.name: field.default for field in fields(GenerationConfig)}


@dataclass(frozen=True)
class Search:
    """How a teacher translates.

    Attributes:
        generation: fairseq's GenerationConfig.
        longest: longer sources, in subwords, are not translated.
        max_tokens: source subwords a batch.
        seed: of samples; each shard draws with the next one.
    """

    generation: Any
    longest: int
    max_tokens: int
    seed: int

    def checked(self) -> Search:
        """Return the search itself.

        Raises:
            UserError: no translation can be found so.
        """
        how = self.generation
        if how.beam < 1 or self.longest < 1:
            raise UserError("--beam and --longest-source: give numbers from 1 up")
        if how.nbest > how.beam:
            raise UserError(
                f"a beam of {how.beam} finds no {how.nbest} translations: raise --beam, or lower "
                "--n-best"
            )
        if how.sampling and how.nbest != how.beam:
            raise UserError(
                f"--sampling draws as many as --beam, {how.beam}: leave --n-best out, or give "
                "that number"
            )
        if not how.sampling and (how.sampling_topk > 0 or how.sampling_topp > 0):
            raise UserError("--sampling-topk and --sampling-topp are for --sampling alone")
        if how.temperature <= 0 or how.sampling_topp > 1:
            raise UserError("--temperature is above 0, --sampling-topp at most 1")
        if self.longest > self.max_tokens:
            raise UserError(
                f"a sentence of {self.longest} subwords (--longest-source) does not fit a batch "
                f"of {self.max_tokens} (--max-tokens)"
            )
        return self

    @property
    def record(self) -> dict[str, Any]:
        """What the translations depend on; the size of a batch changes rounding alone."""
        found = {name: getattr(self.generation, name) for name in OPTIONS}
        return {**found, "longest_source": self.longest} | (
            {"seed": self.seed} if self.generation.sampling else {}
        )

    @property
    def beyond_ctranslate2(self) -> str | None:
        """The first option that CTranslate2 does not have, if there is one."""
        how = self.generation
        asked = [name for name in _ONLY_FAIRSEQ if getattr(how, name) != _DEFAULTS[name]]
        if how.temperature != 1 and not how.sampling:
            asked.append("temperature")
        return f"--{asked[0].replace('_', '-')}" if asked else None

    def most(self, source: int) -> int:
        """Return how many subwords a translation may have, as fairseq counts.

        Args:
            source: subwords of the longest source of the batch, its end not counted.
        """
        return int(self.generation.max_len_a * (source + 1) + self.generation.max_len_b)
