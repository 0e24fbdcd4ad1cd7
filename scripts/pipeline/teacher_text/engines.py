"""What runs a teacher over its source: CTranslate2, or fairseq-generate."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import commands, exporting, files, segmentation, settings
from pipeline.errors import PipelineError
from pipeline.progress import say
from pipeline.settings import Pair
from pipeline.teacher_text import ctranslate2_job, shards
from pipeline.teacher_text.recipe import Recipe
from pipeline.teacher_text.shards import Candidate, Shard
from pipeline.teacher_text.source import Sentences, Source, sentences

Work = Sequence[tuple[Source, Sequence[Shard]]]


@dataclass(frozen=True)
class Report:
    """Who is told how far it is.

    Attributes:
        sentences: gets how many more are translated.
        written: called after each shard.
    """

    sentences: Callable[[int], None]
    written: Callable[[Path], None]


@dataclass(frozen=True)
class CTranslate2:
    """CTranslate2, on the GPU where there is one."""

    model: Path
    recipe: Recipe
    sampled: bool = False

    @property
    def name(self) -> str:
        """With the precision."""
        return f"CTranslate2 ({self.recipe.quantization})"

    def translate(self, pair: Pair, work: Work, log: Path, scratch: Path, report: Report) -> None:
        """Write shards.

        Args:
            pair: its segmentation, and what of this machine may be used.
            work: what to translate.
            log: gets what is printed, behind what is there.
            scratch: a folder that no other process uses.
            report: see there.

        Raises:
            PipelineError: it failed.
        """

        def on_line(line: str) -> None:
            word, _, value = line.partition(" ")
            if word == ctranslate2_job.SENTENCES:
                report.sentences(int(value))
            elif word == ctranslate2_job.WRITTEN:
                report.written(Path(value))
            elif word == ctranslate2_job.NO_GPU:
                say(f"translate: on the CPU, as CTranslate2 cannot use this GPU ({value})")

        job = scratch / "job.json"
        wanted = [(source.subwords, of_source) for source, of_source in work]
        ctranslate2_job.write(
            job,
            self.model,
            self.recipe,
            pair.segmentation,
            wanted,
            pair.slot.threads,
            sampled=self.sampled,
        )
        command = [*commands.python_module(ctranslate2_job.__name__), str(job)]
        folder = settings.REPOSITORY / "scripts"  # where Python finds the module
        commands.run(command, log, on_line, append=True, folder=folder, slot=pair.slot)


@dataclass(frozen=True)
class FairseqGenerate:
    """fairseq-generate: slower, and for every model of fairseq's, and several together."""

    models: Sequence[Path]
    recipe: Recipe
    sampled: bool = False
    name = "fairseq-generate"

    def translate(self, pair: Pair, work: Work, log: Path, scratch: Path, report: Report) -> None:
        """As `CTranslate2.translate`; a process for each shard."""
        for language in pair.languages:
            shutil.copy(pair.bin_dir / f"dict.{language}.txt", scratch)
        for source, wanted in work:
            for shard, found in sentences(source.subwords, wanted, self.recipe.max_length):
                more = self._how(shard)
                shards.write(shard, self._generate(pair, found, more, log, scratch, report))
                report.written(shard.path)

    def _generate(
        self,
        pair: Pair,
        found: Sentences,
        how: Mapping[str, Any],
        log: Path,
        scratch: Path,
        report: Report,
    ) -> dict[int, list[Candidate]]:
        lines = list(found)
        translations: dict[int, list[Candidate]] = {line: [] for line in lines}
        if not lines:
            return {}
        raw = scratch / f"test.{pair.source_lang}-{pair.target_lang}.{pair.source_lang}"
        files.write_lines(raw, (" ".join(found[line]) for line in lines))

        def on_line(printed: str) -> None:
            if printed.startswith("H-"):
                number, score, subwords = printed.removeprefix("H-").split("\t", 2)
                text = segmentation.join(subwords, pair.segmentation)
                of_sentence = translations[lines[int(number)]]
                report.sentences(0 if of_sentence else 1)
                of_sentence.append(Candidate(float(score) * math.log(2), text))

        commands.run(self._command(pair, scratch, how), log, on_line, append=True, slot=pair.slot)
        if missing := [line for line in lines if not translations[line]]:
            raise PipelineError(
                f"fairseq-generate left {len(missing)} of {len(lines)} sentences out, the first "
                f"one line {missing[0] + 1}: is it longer than the teacher reads? Lower "
                "translate.max_length in pair.yaml"
            )
        return translations

    def _how(self, shard: Shard) -> dict[str, Any]:
        recipe, draw = self.recipe, self.recipe.sampling
        if not self.sampled:
            return {"beam": recipe.beam, "nbest": recipe.n_best, "lenpen": recipe.lenpen}
        found: dict[str, Any] = {"beam": draw.samples, "nbest": draw.samples, "sampling": None}
        if draw.top_p < 1:
            found["sampling-topp"] = draw.top_p
        return {**found, "temperature": draw.temperature, "seed": draw.seed + shard.number}

    def _command(self, pair: Pair, data: Path, how: Mapping[str, Any]) -> list[str]:
        recipe = self.recipe
        options = {
            "path": os.pathsep.join(map(str, self.models)),
            "user-dir": settings.USER_DIR,
            "source-lang": pair.source_lang,
            "target-lang": pair.target_lang,
            "dataset-impl": "raw",
            "gen-subset": "test",
            "max-tokens": recipe.max_tokens,
            "required-batch-size-multiple": 1,
            "num-workers": 0,  # as in pipeline.translate
            "max-len-a": recipe.max_len_a,
            "max-len-b": recipe.max_len_b,
            **how,
        }
        words = [
            str(word)
            for name, value in options.items()
            for word in (f"--{name}", value)
            if word is not None
        ]
        return [*commands.fairseq_module("fairseq_cli.generate"), str(data), *words]


def choose(
    pair: Pair, models: Sequence[Path], folder: Path, recipe: Recipe, *, sampled: bool
) -> CTranslate2 | FairseqGenerate:
    """Return the engine that the recipe asks for; the model is converted where that is needed.

    Args:
        pair: its dictionaries.
        models: fairseq's checkpoints; several translate as an ensemble.
        folder: gets the converted model.
        recipe: how to translate.
        sampled: whether samples are drawn instead of the n best searched.

    Raises:
        PipelineError: CTranslate2 is asked for and cannot express the model.
    """
    if recipe.engine == FairseqGenerate.name:
        return FairseqGenerate(models, recipe, sampled)
    converted = folder / f"ctranslate2-{recipe.quantization}"
    if not converted.exists():
        source, target = (pair.bin_dir / f"dict.{language}.txt" for language in pair.languages)
        try:
            if len(models) > 1:
                raise PipelineError("CTranslate2 cannot average several models")
            exporting.convert(models[0], converted, (source, target), recipe.quantization)
        except PipelineError as error:
            if recipe.engine == "ctranslate2":
                raise
            say(f"translate: {error}; so fairseq-generate is at work, which takes longer")
            return FairseqGenerate(models, recipe, sampled)
    return CTranslate2(converted, recipe, sampled)
