"""Stages `text.NAME`: write a training text of translations, references or both, for fairseq."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine import files, state
from pipeline.engine.progress import bar, say
from pipeline.engine.stage import Stage
from pipeline.models import distilling, plugin
from pipeline.models.settings import Pair
from pipeline.models.training_text import CHOOSERS, REFERENCES, SAMPLED, Text
from pipeline.models.translate_settings import Recipe
from pipeline.models.translating import Translation

if TYPE_CHECKING:
    from ka_fairseq.distill.write import Part


@dataclass(frozen=True)
class TrainingText:
    """A text that models are trained on.

    Attributes:
        text: the parts of the text, and their translator.
    """

    text: Text

    @property
    def name(self) -> str:
        """The name of the stage."""
        return stage_name(self.text)

    @property
    def translations(self) -> list[Translation]:
        """The translations that the text is made from."""
        kinds = [kind for kind, _ in self.text.parts if kind != REFERENCES]
        return list(dict.fromkeys(map(self._translation, kinds)))

    def _translation(self, kind: str) -> Translation:
        return Translation(self.text.translator, sampled=kind == SAMPLED)

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages that the text is made from."""
        return ("binarize", *(translation.name for translation in self.translations))

    def stage(self, pair: Pair) -> Stage:
        """Return the stage that makes the text."""
        return Stage(
            self.name,
            lambda slot: self.run(pair),
            lambda slot: self.inputs(pair),
            needs=self.needs,
            clear=lambda: files.remove(folder(pair, self.text)),
            cheap=True,
        )

    def inputs(self, pair: Pair) -> dict[str, Any]:
        """Return what the text depends on."""
        found: dict[str, Any] = {"parts": self.text.parts}
        found |= {
            f"from {need}": state.fingerprint(pair.files.run_dir, need) for need in self.needs
        }
        if self.text.translated:
            recipe = pair.translate
            filters = dataclasses.asdict(recipe.filters)
            found |= {f"filters.{key}": value for key, value in filters.items()}
            # The default adds no input: older texts stay valid.
            if recipe.nearness != Recipe.nearness:
                found["nearness"] = recipe.nearness
        return found

    def run(self, pair: Pair) -> dict[str, Any]:
        """Choose translations, filter them, and write them with binarize's dictionaries.

        Raises:
            PipelineError: no translation is left, or translations are missing.
        """
        data = distilling.data_bin(pair, None)
        parts = [self._part(pair, kind, times) for kind, times in self.text.parts]
        recipe = pair.translate
        with (
            files.written_whole(folder(pair, self.text)) as target,
            plugin.user_errors(),
        ):
            from ka_fairseq.distill import write
            from ka_fairseq.distill.filters import Filters
            from ka_fairseq.distill.nearness import METRICS

            filters = Filters(**dataclasses.asdict(recipe.filters))
            choice = write.Choice(METRICS[recipe.nearness], filters, pair.decoding.remove_bpe)
            told = write.write(data, parts, choice, target, {}, self._bar)
            lines = [
                f"{self.name}: {name}: {counts['kept']} translations kept, {write.listed(counts)}"
                for name, counts in told["kept"].items()
                if name != REFERENCES
            ]
        for line in lines:
            say(line)
        total = f"{self.name}: {told['pairs']} sentence pairs"
        files.write_lines(pair.files.log(self.name), [*lines, total])
        return {"pairs": told["pairs"], "kept": told["kept"]}

    def _part(self, pair: Pair, kind: str, times: int) -> Part:
        chosen = kind != REFERENCES
        translations = self._translation(kind).translations(pair) if chosen else None
        with plugin.user_errors():
            from ka_fairseq.distill.write import Part

            return Part(CHOOSERS.get(kind, kind), times, translations, kind)

    def _bar(self, title: str, total: int) -> Any:
        return bar(title=f"{self.name}: {title}", total=total, unit=" sentences")


def stage_name(text: Text) -> str:
    """Return the name of a text's stage."""
    return f"text.{text.name}"


def folder(pair: Pair, text: Text) -> Path:
    """Return the data-bin of a text."""
    return pair.files.bin_dir if text.plain else pair.files.run_dir / "texts" / text.name
