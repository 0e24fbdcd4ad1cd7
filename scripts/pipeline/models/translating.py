"""Stages `translate.TEACHER`: translate the training source with `ka_fairseq.distill`."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.engine import files, state
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar, say
from pipeline.engine.stage import Stage, share_is_there
from pipeline.models import distilling, external_translations, plugin
from pipeline.models import training_text as spec
from pipeline.models.external_translations import MONO, TRAIN
from pipeline.models.settings import Pair
from pipeline.text import clean, corpus, segmentation

if TYPE_CHECKING:
    from ka_fairseq.distill.translations import Translations

# A line of tqdm: the number of finished sentences, and the number of all sentences.
_PROGRESS = re.compile(r"translating:\s+\d+%\|.*\| (\d+)/(\d+) \[")
_COUNT = re.compile(r"(\d+) (empty|too long|with unknown types)")


@dataclass(frozen=True)
class Translation:
    """The translations of one teacher.

    Attributes:
        teacher: the training whose model translates, or an ensemble; see `spec.members`.
        sampled: whether the translations are samples instead of the n best.
    """

    teacher: str
    sampled: bool = False

    @property
    def members(self) -> tuple[str, ...]:
        """The models that translate, together."""
        return spec.members(self.teacher)

    @property
    def name(self) -> str:
        """The name of the stage."""
        return f"translate.{self._of}"

    @property
    def _of(self) -> str:
        return f"{self.teacher}.samples" if self.sampled else self.teacher

    def folder(self, pair: Pair) -> Path:
        """Return the folder of the translations; each text has a folder in it."""
        return pair.files.run_dir / "translated" / self._of

    def stage(self, pair: Pair) -> Stage:
        """Return the stage that translates, or that takes over given translations.

        Raises:
            PipelineError: there is neither a teacher nor a given translation. Or samples are asked
                for, but translations are given.
        """
        given = external_translations.find(pair) is not None
        if given and self.sampled:
            raise PipelineError(
                f"{external_translations.folder(pair)} has translations, so no samples are drawn: "
                f"train on mbr instead of {spec.SAMPLED}"
            )
        unknown = [name for name in self.members if name not in pair.titles]
        if not given and unknown:
            raise PipelineError(
                f"there is no model {unknown[0]} to translate, and "
                f"{external_translations.folder(pair)} has no "
                f"translated.{pair.target_lang}: name a model as translator in pair.yaml"
            )
        return Stage(
            self.name,
            lambda slot: self.take_over(pair) if given else self.run(pair, slot),
            lambda slot: self.inputs(pair),
            needs=("binarize",) if given else ("binarize", *self.members),
            clear=lambda: files.remove(self.folder(pair)),
            begun=lambda: any(self.folder(pair).glob("*/*.tsv")),
            share=lambda slot, share: self.run_share(pair, slot, share),
        )

    def inputs(self, pair: Pair) -> dict[str, Any]:
        """Return what the translations depend on."""
        recipe = pair.translate
        found = {"from binarize": state.fingerprint(pair.files.run_dir, "binarize")}
        if mono := external_translations.monolingual(pair):
            found[mono.name] = files.sha256(mono)
        if external_translations.find(pair) is None:
            of_recipe = recipe.inputs_of_samples if self.sampled else recipe.inputs
            return found | of_recipe | {"teacher": files.sha256_of(self._models(pair))}
        for part in (TRAIN, MONO):
            if given := external_translations.find(pair, part):
                found |= external_translations.inputs(given)
        return {**found, "translate.shard": recipe.shard}

    def run(self, pair: Pair, slot: Slot) -> dict[str, Any]:
        """Translate the missing sentences.

        Raises:
            PipelineError: the command failed.
        """
        return self._translate(pair, slot, self._prepared(pair), (1, 1))

    def run_share(self, pair: Pair, slot: Slot, share: tuple[int, int]) -> None:
        """Translate one of several shares; other processes may translate other shares.

        Args:
            pair: the language pair.
            slot: the part of this machine that the command may use.
            share: the number of the share, from 1, and the number of shares.

        Raises:
            PipelineError: see `run` and `Stage.execute`; or translations are given.
        """
        if given := external_translations.find(pair):
            raise PipelineError(
                f"{given.path} is there, so nothing is translated: leave --shard out"
            )
        with state.one_at_a_time(pair.files.run_dir):
            if not self.stage(pair).begin(pair.files, slot):
                say(f"{self.name}: done already")
                return
            mono = self._prepared(pair)
        self._translate(pair, slot, mono, share)
        say(f"{self.name}: {share_is_there(share)}")

    def take_over(self, pair: Pair) -> dict[str, Any]:
        """Write given translations in the same form as a teacher's translations.

        Raises:
            PipelineError: the translations are damaged, or do not match the text.
        """
        mono = self._prepared(pair)
        sources = {TRAIN: pair.files.text_dir / f"{TRAIN}.{pair.source_lang}"}
        if mono is not None:
            sources[MONO] = self._mono(pair)
        given = {name: external_translations.find(pair, name) for name in sources}
        for name in [name for name in sources if given[name] is None]:
            say(f"{self.name}: {sources.pop(name).name} has no translation, and is left out")
        data = distilling.data_bin(pair, mono if MONO in sources else None)
        found: dict[str, Any] = {}
        with plugin.user_errors():
            from ka_fairseq.distill import shards, translations

            made_of = translations.made_of(data, [], {}, pair.translate.shard)
            there = translations.Translations.begin(self.folder(pair), data.texts, made_of)
            for text in data.texts:
                of_text = given[text.name]
                assert of_text is not None
                say(f"{self.name}: taken from {of_text.path}, so no teacher translates")
                lines = self._segmented(pair, of_text, sources[text.name])
                translated = 0
                for shard in there.shards(text):
                    candidates = dict(zip(shard.lines, lines, strict=False))
                    shards.write(shard, candidates)
                    translated += sum(map(bool, candidates.values()))
                if not translated:
                    raise PipelineError(f"{of_text.path} translates none of the text's sentences")
                found |= {f"{text.name}: lines": len(text), f"{text.name}: translated": translated}
        say(f"{self.name}: " + ", ".join(f"{count} {what}" for what, count in found.items()))
        return {"engine": "elsewhere", **found}

    def translations(self, pair: Pair) -> Translations:
        """Open the finished translations.

        Raises:
            PipelineError: translations are missing.
        """
        folder = self.folder(pair)
        if not (folder / distilling.RECORD).exists():
            raise PipelineError(
                f"{folder} has translations of an earlier version: translate again with --force "
                f"{self.name}"
            )
        mono = folder / distilling.MONO_IDS
        there = mono.with_name(f"{mono.name}.idx").exists()
        data = distilling.data_bin(pair, mono if there else None)
        with plugin.user_errors():
            from ka_fairseq.distill.translations import Translations
            from ka_fairseq.teacher.cache.share import ALL

            found = Translations.open(folder, data)
            missing = found.missing(ALL)
        if missing:
            raise PipelineError(
                f"{missing[0][1].path} is missing: translate again with --force {self.name}"
            )
        return found

    def _models(self, pair: Pair) -> list[Path]:
        return [pair.files.model(name) for name in self.members]

    def _mono(self, pair: Pair) -> Path:
        """Return the path of the cleaned monolingual text."""
        return self.folder(pair) / f"{MONO}.{pair.source_lang}"

    def _prepared(self, pair: Pair) -> Path | None:
        """Return the file of the monolingual text in subwords, or None. Make a missing file."""
        given = external_translations.monolingual(pair)
        if given is None:
            return None
        text = self._mono(pair)
        segmented = text.with_name(f"{MONO}.segmented.{pair.source_lang}")
        if not text.exists():
            lines = clean.one_side(
                corpus.read_sentences(given), external_translations.recipe(pair), side=0
            )
            with files.written_whole(text) as temporary:  # gets its name when both files exist
                files.write_lines(temporary, lines)
                with files.written_whole(segmented) as subwords:
                    segmentation.encode(
                        pair.files.bin_dir, pair.source_lang, pair.segmentation, temporary, subwords
                    )
        return segmented

    def _segmented(
        self, pair: Pair, given: external_translations.Given, source: Path
    ) -> Iterator[list[Any]]:
        """Yield the translations of each line of a text, in subwords."""
        from ka_fairseq.distill.shards import Candidate

        text, subwords = (self.folder(pair) / f"given.{end}" for end in ("text", "subwords"))
        found = list(external_translations.translations(pair, given, source))
        files.write_lines(text, [candidate.text for of_line in found for candidate in of_line])
        segmentation.encode(pair.files.bin_dir, pair.target_lang, pair.segmentation, text, subwords)
        with subwords.open(encoding="utf-8", newline="\n") as file:
            lines = map(str.rstrip, file)
            for of_line in found:
                segmented = itertools.islice(lines, len(of_line))
                yield [Candidate(c.score, s) for c, s in zip(of_line, segmented, strict=True)]
        for path in (text, subwords):
            files.remove(path)

    def _translate(
        self, pair: Pair, slot: Slot, mono: Path | None, share: tuple[int, int]
    ) -> dict[str, Any]:
        """Run the command, and return the counts that it prints."""
        title = self.name if share == (1, 1) else "{} {}-of-{}".format(self.name, *share)
        more = [] if mono is None else ["--mono", str(mono)]
        command = distilling.command(
            *(pair, slot, pair.files.bin_dir, self._models(pair), pair.translate),
            *(self.folder(pair), share, *more),
            sampled=self.sampled,
        )
        facts: dict[str, Any] = {}
        with bar(title=title, unit=" sentences") as progress:

            def on_line(line: str) -> None:
                if found := _PROGRESS.search(line):
                    progress.total = int(found[2])
                    progress.update(int(found[1]) - progress.n)
                elif line.startswith(distilling.TOLD):
                    told = line.removeprefix(distilling.TOLD)
                    facts.update({what: int(count) for count, what in _COUNT.findall(told)})
                    say(f"{title}: {told}")

            log = pair.files.log(title.replace(" ", "."))
            distilling.run(slot, command, log, on_line, append=True)
        return facts
