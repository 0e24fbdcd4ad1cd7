"""The training text of a model: the references, a teacher's translations, or both."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.engine.errors import PipelineError

REFERENCES = "references"
SAMPLED = "mbr_samples"
CHOOSERS = {
    "best": "best",
    "closest": "closest",
    "mbr": "mbr",
    SAMPLED: "mbr",
    "reference": "closest",
}
"""The chooser of `ka_fairseq.distill` for each kind of text; `reference` is the old `closest`."""
KINDS = (REFERENCES, *CHOOSERS)
TRANSLATOR = "teacher"
"""The model that translates, if a model names neither `translator` nor `teacher`."""
_AND = "+"


def members(teacher: str | None) -> tuple[str, ...]:
    """Return the models that teach or translate together: ``first+second`` is an ensemble."""
    return tuple(teacher.split(_AND)) if teacher else ()


@dataclass(frozen=True)
class Text:
    """A training text: where the target side of each source sentence comes from.

    Attributes:
        parts: some of `KINDS`, each with the number of its repetitions.
        translator: the model or ensemble that translates the source; see `members`.
    """

    parts: tuple[tuple[str, int], ...] = ((REFERENCES, 1),)
    translator: str = TRANSLATOR

    @classmethod
    def load(cls, value: Any, translator: str | None, where: str) -> Text:
        """Read the field `text` of a model.

        Args:
            value: one of `KINDS`, or several with their numbers of repetitions; None: references.
            translator: the model that translates.
            where: the file and the entry, for errors.

        Raises:
            PipelineError: a kind is unknown, or a number is invalid.
        """
        wanted = value or REFERENCES
        parts = dict(wanted) if isinstance(wanted, Mapping) else {wanted: 1}
        if unknown := [kind for kind in parts if kind not in KINDS]:
            raise PipelineError(
                f"{where}.text: no {unknown[0]}; choose from {', '.join(KINDS)}, or mix them: "
                "{references: 1, best: 2}"
            )
        for kind, times in parts.items():
            if not isinstance(times, int) or isinstance(times, bool) or times < 1:
                raise PipelineError(f"{where}.text.{kind}: {times} is not a number from 1 up")
        return cls(tuple(parts.items()), translator or TRANSLATOR)

    @property
    def translated(self) -> bool:
        """Whether a teacher's translations are part of the text."""
        return any(kind != REFERENCES for kind, _ in self.parts)

    @property
    def plain(self) -> bool:
        """Whether the text is the one that `binarize` makes: each reference once."""
        return self.parts == Text().parts

    @property
    def name(self) -> str:
        """The name of the folder: ``best``, ``references-best2``, ``mbr-of-teacher2``."""
        parts = "-".join(kind + (str(times) if times > 1 else "") for kind, times in self.parts)
        other = self.translated and self.translator != TRANSLATOR
        return f"{parts}-of-{self.translator}" if other else parts
