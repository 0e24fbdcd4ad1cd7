"""Stages `text.NAME`: text to train on, of translations, references or both, for fairseq."""

from __future__ import annotations

import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline import commands, files, parallel, segmentation, state
from pipeline.errors import PipelineError
from pipeline.progress import bar, say
from pipeline.settings import USER_DIR, Pair
from pipeline.stage import Stage
from pipeline.teacher_text import shards
from pipeline.teacher_text.elsewhere import TRAIN
from pipeline.teacher_text.filters import kept
from pipeline.teacher_text.recipe import Recipe
from pipeline.teacher_text.selection import selection
from pipeline.teacher_text.source import Source
from pipeline.teacher_text.spec import REFERENCES, SAMPLED, Text
from pipeline.teacher_text.translating import Translation

_UNKNOWN = "<unk>"  # as fairseq and CTranslate2 write the type that stands for all others


@dataclass(frozen=True)
class TrainingText:
    """A text that models are trained on.

    Attributes:
        text: which.
    """

    text: Text

    @property
    def name(self) -> str:
        """Of the stage."""
        return stage_name(self.text)

    @property
    def translations(self) -> list[Translation]:
        """Where its translations come from."""
        kinds = [kind for kind, _ in self.text.parts if kind != REFERENCES]
        return list(dict.fromkeys(map(self._translation, kinds)))

    def _translation(self, kind: str) -> Translation:
        return Translation(self.text.translator, sampled=kind == SAMPLED)

    @property
    def stage(self) -> Stage:
        """The stage that makes it."""
        needs = ("binarize", *(translation.name for translation in self.translations))
        return Stage(
            self.name,
            self.run,
            self.inputs,
            needs=needs,
            clear=lambda pair: files.remove(folder(pair, self.text)),
            cheap=True,
        )

    def inputs(self, pair: Pair) -> dict[str, Any]:
        """Return what the text depends on."""
        found: dict[str, Any] = {"parts": self.text.parts}
        found |= {
            f"from {need}": state.fingerprint(pair.run_dir, need) for need in self.stage.needs
        }
        if self.text.translated:
            recipe = Recipe.load(pair.translate)
            filters = dataclasses.asdict(recipe.filters)
            found |= {f"filters.{key}": value for key, value in filters.items()}
            if recipe.nearness != Recipe.nearness:  # a text from before it was a setting stays
                found["nearness"] = recipe.nearness
        return found

    def run(self, pair: Pair) -> dict[str, Any]:
        """Choose translations, filter, segment and binarize them, with binarize's dictionaries.

        Raises:
            PipelineError: no translation is left, or fairseq-preprocess failed.
        """
        log = pair.log(self.name)
        files.remove(log)
        counts: dict[str, Any] = {}
        with files.written_whole(folder(pair, self.text)) as target:
            segmented = target / "segmented"
            segmented.mkdir(parents=True)
            for kind, times in self.text.parts:
                part = segmented / kind
                if kind == REFERENCES:
                    for language in pair.languages:
                        of_pair = pair.bin_dir / "segmented" / f"{TRAIN}.{language}"
                        shutil.copy(of_pair, f"{part}.{language}")
                else:
                    counts[kind] = self._choose(pair, kind, part)
                for language in pair.languages:
                    _append(segmented / f"{TRAIN}.{language}", Path(f"{part}.{language}"), times)
            with (segmented / f"{TRAIN}.{pair.source_lang}").open("rb") as file:
                pairs = sum(1 for _ in file)
            files.write_lines(log, [*counts.values(), f"{self.name}: {pairs} sentence pairs"])
            preprocess(pair, target, log)
            for path in pair.bin_dir.glob("valid.*"):
                shutil.copy(path, target)
        return {"pairs": pairs, "kept": counts}

    def _choose(self, pair: Pair, kind: str, part: Path) -> str:
        """Write the pairs of one selection; return what became of the translations."""
        languages = pair.source_lang, pair.target_lang
        source, target = (part.with_name(f"{part.name}.{language}") for language in languages)
        text, subwords = (part.with_name(f"{part.name}.{end}") for end in ("chosen", "subwords"))
        dropped: Counter[str] = Counter()
        with text.open("w", encoding="utf-8", newline="\n") as file:
            for chosen in self._chosen(pair, kind):
                file.write(f"{_fit(chosen, dropped)}\n")
        segmentation.encode(pair.bin_dir, pair.target_lang, pair.segmentation, text, subwords)
        written = 0
        with ExitStack() as stack:
            outputs = [
                stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
                for path in (source, target)
            ]
            translated = stack.enter_context(subwords.open(encoding="utf-8", newline="\n"))
            pairs = zip(self._subwords(pair, kind), map(_stripped, translated), strict=True)
            there = (found for found in pairs if found[1])
            for found in kept(there, Recipe.load(pair.translate).filters, dropped):
                for file, line in zip(outputs, found, strict=True):
                    file.write(f"{line}\n")
                written += 1
        for path in (text, subwords):
            files.remove(path)
        if not written:
            raise PipelineError(
                f"no translation is left to train on ({_listed(dropped)}): see translate.filters "
                "in pair.yaml"
            )
        told = f"{self.name}: {kind}: {written} translations kept, {_listed(dropped)} dropped"
        say(told)
        return told

    def _parts(self, pair: Pair, kind: str) -> Iterator[tuple[Source, list[shards.Shard]]]:
        translation = self._translation(kind)
        for source in translation.sources(pair):
            if there := translation.shards(pair, source):
                yield source, there

    def _chosen(self, pair: Pair, kind: str) -> Iterator[str | None]:
        """Yield the translation of each source sentence that one was to be found for."""
        choose = selection(kind, Recipe.load(pair.translate).nearness)
        for source, of_source in self._parts(pair, kind):
            path = pair.text_dir / f"{TRAIN}.{pair.target_lang}"
            with path.open(encoding="utf-8", newline="\n") as file:
                lines = map(_stripped, file) if source.name == TRAIN else None
                title = f"{self.name}: {kind} of {source.name}"
                for shard in bar(of_source, title, unit=" shards"):
                    references = None if lines is None else list(islice(lines, len(shard)))
                    yield from choose(shards.read(shard), references)

    def _subwords(self, pair: Pair, kind: str) -> Iterator[str]:
        for source, _ in self._parts(pair, kind):
            with source.subwords.open(encoding="utf-8", newline="\n") as file:
                yield from map(_stripped, file)


def stage_name(text: Text) -> str:
    """Return the name of a text's stage."""
    return f"text.{text.name}"


def folder(pair: Pair, text: Text) -> Path:
    """Return what fairseq reads, for a text."""
    return pair.bin_dir if text.plain else pair.run_dir / "texts" / text.name


def _fit(chosen: str | None, dropped: Counter[str]) -> str:
    """Return a translation, or nothing where it is not one, which is counted."""
    if chosen is None:
        dropped["without translation"] += 1
    elif _UNKNOWN in chosen:
        dropped["with unknown types"] += 1
    elif not chosen:
        dropped["empty translations"] += 1
    else:
        return chosen
    return ""


def _append(path: Path, part: Path, times: int) -> None:
    with path.open("ab") as file:
        for _ in range(times):
            with part.open("rb") as lines:
                shutil.copyfileobj(lines, file)
    files.remove(part)


def preprocess(pair: Pair, target: Path, log: Path) -> None:
    """Have fairseq-preprocess binarize a folder's training text with the pair's dictionaries."""
    command = commands.fairseq_module("fairseq_cli.preprocess")
    command += ["--source-lang", pair.source_lang, "--target-lang", pair.target_lang]
    # Relative to the folder: fairseq-preprocess splits the paths of its text at commas.
    command += ["--trainpref", f"segmented/{TRAIN}", "--destdir", "."]
    for option, language in zip(("--srcdict", "--tgtdict"), pair.languages, strict=True):
        command += [option, str(pair.bin_dir / f"dict.{language}.txt")]
    command += ["--workers", str(parallel.cores()), "--user-dir", str(USER_DIR)]
    commands.run(command, log, append=True, folder=target)


def _listed(dropped: Counter[str]) -> str:
    return ", ".join(f"{n} {why}" for why, n in sorted(dropped.items()) if n) or "none"


def _stripped(line: str) -> str:
    return line.rstrip("\n")
