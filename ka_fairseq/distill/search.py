"""Options of the teacher's search, as in fairseq-generate. CTranslate2 lacks some of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from fairseq.dataclass.configs import GenerationConfig

from ka_fairseq.errors import UserError

# Options of GenerationConfig that change translations. Its other options print, score, or force
# tokens.
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
    """The options of a teacher's search.

    Attributes:
        generation: fairseq's GenerationConfig.
        longest: the greatest length of a source, in subwords; longer sources are not translated.
        max_tokens: source subwords in a batch.
        seed: the random seed for samples. Each shard uses the next seed.
    """

    generation: Any
    longest: int
    max_tokens: int
    seed: int

    def checked(self) -> Search:
        """Check the options, and return the search itself.

        Raises:
            UserError: the options do not fit together.
        """
        how = self.generation
        if how.beam < 1 or self.longest < 1:
            raise UserError("--beam and --longest-source: give 1 or more")
        if how.nbest > how.beam:
            raise UserError(
                f"a beam of {how.beam} has no {how.nbest} translations: raise --beam, or lower "
                "--n-best"
            )
        if how.sampling and how.nbest != how.beam:
            raise UserError(
                f"--sampling draws {how.beam} samples (--beam): leave --n-best out, or give "
                "the same number"
            )
        if not how.sampling and (how.sampling_topk > 0 or how.sampling_topp > 0):
            raise UserError(
                "--sampling-topk and --sampling-topp need --sampling: give it, or leave them out"
            )
        if how.temperature <= 0 or how.sampling_topp > 1:
            raise UserError("--temperature must be above 0, and --sampling-topp at most 1")
        if self.longest > self.max_tokens:
            raise UserError(
                f"a sentence of {self.longest} subwords (--longest-source) does not fit a batch "
                f"of {self.max_tokens} (--max-tokens): raise --max-tokens, or lower "
                "--longest-source"
            )
        return self

    @property
    def record(self) -> dict[str, Any]:
        """The options that change translations, but not the batch size, which changes rounding."""
        found = {name: getattr(self.generation, name) for name in OPTIONS}
        return {**found, "longest_source": self.longest} | (
            {"seed": self.seed} if self.generation.sampling else {}
        )

    @property
    def beyond_ctranslate2(self) -> str | None:
        """The first option in use that CTranslate2 does not have, or None."""
        how = self.generation
        asked = [name for name in _ONLY_FAIRSEQ if getattr(how, name) != _DEFAULTS[name]]
        if how.temperature != 1 and not how.sampling:
            asked.append("temperature")
        return f"--{asked[0].replace('_', '-')}" if asked else None

    def most(self, source: int) -> int:
        """Return the greatest number of subwords in a translation, with fairseq's rule.

        Args:
            source: subwords in the longest source of the batch, without the end of the sentence.
        """
        return int(self.generation.max_len_a * (source + 1) + self.generation.max_len_b)
