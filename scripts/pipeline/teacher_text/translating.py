"""Stages `translate.TEACHER`: a teacher translates the training source, shard by shard."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pipeline import clean, corpus, files, segmentation, state
from pipeline.errors import PipelineError
from pipeline.progress import bar, say
from pipeline.settings import Pair
from pipeline.stage import Stage, share_is_there
from pipeline.teacher_text import elsewhere, engines, shards, spec
from pipeline.teacher_text.elsewhere import MONO, TRAIN
from pipeline.teacher_text.recipe import Recipe
from pipeline.teacher_text.shards import Shard
from pipeline.teacher_text.source import Source, faults


@dataclass(frozen=True)
class Translation:
    """The translations of one teacher.

    Attributes:
        teacher: the training whose model translates, or several; see `spec.members`.
        sampled: whether they are samples, and not the n best.
    """

    teacher: str
    sampled: bool = False

    @property
    def members(self) -> tuple[str, ...]:
        """The models that translate, together."""
        return spec.members(self.teacher)

    @property
    def name(self) -> str:
        """Of the stage."""
        return f"translate.{self._of}"

    @property
    def _of(self) -> str:
        return f"{self.teacher}.samples" if self.sampled else self.teacher

    def folder(self, pair: Pair) -> Path:
        """Return where the shards are, in a folder for each text."""
        return pair.run_dir / "translated" / self._of

    def stage(self, pair: Pair) -> Stage:
        """Return the stage that translates, or takes over what was translated elsewhere.

        Raises:
            PipelineError: there is neither a teacher nor a translation, or no sample.
        """
        given = elsewhere.find(pair) is not None
        if given and self.sampled:
            raise PipelineError(
                f"{elsewhere.folder(pair)} has translations, so no samples are drawn: train on mbr "
                f"instead of {spec.SAMPLED}"
            )
        unknown = [name for name in self.members if name not in pair.titles]
        if not given and unknown:
            raise PipelineError(
                f"no model {unknown[0]} is there to translate, and {elsewhere.folder(pair)} has "
                f"no translated.{pair.target_lang}: name one as translator in pair.yaml"
            )
        return Stage(
            self.name,
            self.take_over if given else self.run,
            self.inputs,
            needs=("binarize",) if given else ("binarize", *self.members),
            clear=lambda pair: files.remove(self.folder(pair)),
            begun=lambda pair: any(self.folder(pair).glob("*/*.tsv")),
        )

    def inputs(self, pair: Pair) -> dict[str, Any]:
        """Return what the translations depend on."""
        recipe = Recipe.load(pair.translate)
        found = {"from binarize": state.fingerprint(pair.run_dir, "binarize")}
        if mono := elsewhere.monolingual(pair):
            found[mono.name] = files.sha256(mono)
        if elsewhere.find(pair) is None:
            of_recipe = recipe.inputs_of_samples if self.sampled else recipe.inputs
            return found | of_recipe | {"teacher": files.sha256_of(self._models(pair))}
        for part in (TRAIN, MONO):
            if given := elsewhere.find(pair, part):
                found |= elsewhere.inputs(given)
        return {**found, "translate.shard": recipe.shard}

    def sources(self, pair: Pair) -> list[Source]:
        """Return the texts that are translated; `prepare` has to come before."""
        folder = self.folder(pair)
        name = f"{TRAIN}.{pair.source_lang}"
        segmented = pair.bin_dir / "segmented" / name
        found = [Source(TRAIN, pair.text_dir / name, segmented, folder / TRAIN)]
        text = folder / f"{MONO}.{pair.source_lang}"
        if text.exists():
            segmented = folder / f"{MONO}.segmented.{pair.source_lang}"
            found.append(Source(MONO, text, segmented, folder / MONO))
        return found

    def prepare(self, pair: Pair) -> None:
        """Clean and segment the monolingual text, where there is some and it is not done."""
        given = elsewhere.monolingual(pair)
        text, segmented = (
            self.folder(pair) / f"{kind}.{pair.source_lang}" for kind in (MONO, f"{MONO}.segmented")
        )
        if given is None or text.exists():
            return
        lines = clean.one_side(corpus.read_sentences(given), elsewhere.recipe(pair), side=0)
        with files.written_whole(text) as temporary:  # named when both are there
            files.write_lines(temporary, lines)
            with files.written_whole(segmented) as subwords:
                segmentation.encode(
                    pair.bin_dir, pair.source_lang, pair.segmentation, temporary, subwords
                )

    def run(self, pair: Pair) -> dict[str, Any]:
        """Translate what is missing.

        Raises:
            PipelineError: the engine failed, or the disk has no room.
        """
        engine = self._set_up(pair)
        counts = self._faults(pair)
        self._translate(pair, engine, (1, 1))
        say(f"{self.name}: {_listed(counts)}; those that are empty or too long have no translation")
        return {"engine": engine.name, "sentences": sum(map(len, self.sources(pair))), **counts}

    def run_share(self, pair: Pair, share: tuple[int, int]) -> None:
        """Translate one of several shares; others may be at work beside it.

        Args:
            pair: whose text it is.
            share: which, from 1, and of how many.

        Raises:
            PipelineError: as `run`, or as `Stage.execute`; or the translations come from elsewhere.
        """
        if given := elsewhere.find(pair):
            raise PipelineError(f"{given.path} is there, so nothing is translated: no --shard")
        with state.one_at_a_time(pair.run_dir):
            if not self.stage(pair).begin(pair):
                say(f"{self.name}: done already")
                return
            engine = self._set_up(pair)
        self._translate(pair, engine, share)
        say(f"{self.name}: {share_is_there(share)}")

    def take_over(self, pair: Pair) -> dict[str, Any]:
        """Make shards of translations from elsewhere.

        Raises:
            PipelineError: they are broken, or do not go with the text.
        """
        self.prepare(pair)
        size = Recipe.load(pair.translate).shard
        found: dict[str, Any] = {}
        for source in self.sources(pair):
            given = elsewhere.find(pair, source.name)
            if given is None:
                say(f"{self.name}: {source.text.name} has no translation, and is left out")
                continue
            say(f"{self.name}: taken from {given.path}, so no teacher translates")
            there = 0
            lines = elsewhere.translations(pair, given, source.text)
            for shard in source.shards(size):
                candidates = {line: next(lines) for line in range(shard.first, shard.last)}
                shards.write(shard, candidates)
                there += sum(map(bool, candidates.values()))
            if not there:
                raise PipelineError(f"{given.path} translates none of the text's sentences")
            found |= {f"{source.name}: lines": len(source), f"{source.name}: translated": there}
        say(f"{self.name}: {_listed(found)}")
        return {"engine": "elsewhere", **found}

    def shards(self, pair: Pair, source: Source) -> list[Shard]:
        """Return the shards of a text; none where it is not translated.

        Raises:
            PipelineError: some are missing.
        """
        found = source.shards(Recipe.load(pair.translate).shard)
        missing = [shard for shard in found if not shard.path.exists()]
        if missing and len(missing) < len(found):
            raise PipelineError(f"{missing[0].path} is gone: --force {self.name} translates anew")
        return [] if missing else found

    def _set_up(self, pair: Pair) -> engines.CTranslate2 | engines.FairseqGenerate:
        self.prepare(pair)
        folder = self.folder(pair)
        folder.mkdir(parents=True, exist_ok=True)
        recipe = Recipe.load(pair.translate)
        return engines.choose(pair, self._models(pair), folder, recipe, sampled=self.sampled)

    def _models(self, pair: Pair) -> list[Path]:
        return [pair.model(name) for name in self.members]

    def _faults(self, pair: Pair) -> Counter[str]:
        dictionary = pair.bin_dir / f"dict.{pair.source_lang}.txt"
        most = Recipe.load(pair.translate).max_length
        counts: Counter[str] = Counter()
        for source in self.sources(pair):
            counts.update(faults(source.subwords, dictionary, most))
        return counts

    def _translate(
        self,
        pair: Pair,
        engine: engines.CTranslate2 | engines.FairseqGenerate,
        share: tuple[int, int],
    ) -> None:
        size = Recipe.load(pair.translate).shard
        wanted = [(s, shards.share(s.shards(size), *share)) for s in self.sources(pair)]
        missing = [(s, [part for part in of if not part.path.exists()]) for s, of in wanted]
        total = sum(len(part) for _, of in wanted for part in of)
        left = sum(len(part) for _, of in missing for part in of)
        if not left:
            return
        name = "all" if share == (1, 1) else "{}-of-{}".format(*share)
        title = self.name if share == (1, 1) else f"{self.name} {name}"
        say(f"{title}: {engine.name} translates {left} of {total} sentences")
        log = pair.log(self.name if share == (1, 1) else f"{self.name}.{name}")
        if left == total:
            files.remove(log)
        with (
            _scratch(self.folder(pair) / f"at-work-{name}") as scratch,
            bar(title=title, total=total, initial=total - left, unit=" sentences") as progress,
        ):
            estimate = _Estimate(title, left, scratch)
            parts = {part.path: part for _, of in missing for part in of}
            written = _Written(progress, parts, estimate)
            report = engines.Report(written.sentences, written.shard)
            engine.translate(pair, missing, log, scratch, report)


class _Written:
    """The bar: sentences that are translated, and those that are skipped, at their shard's end."""

    def __init__(self, progress: tqdm, parts: dict[Path, Shard], estimate: _Estimate) -> None:
        self._progress = progress
        self._parts = parts
        self._estimate = estimate
        self._ends = progress.n

    def sentences(self, count: int) -> None:
        self._progress.update(count)

    def shard(self, path: Path) -> None:
        self._ends += len(self._parts[path])
        self._progress.update(self._ends - self._progress.n)
        self._estimate.written(self._parts[path])


class _Estimate:
    """Time and disk of all that is left, from the first shard."""

    def __init__(self, title: str, sentences: int, folder: Path) -> None:
        self._title = title
        self._left = sentences
        self._folder = folder
        self._start = time.monotonic()
        self._told = False

    def written(self, shard: Shard) -> None:
        """Tell it once.

        Raises:
            PipelineError: the disk has no room for the rest.
        """
        if self._told:
            return
        self._told = True
        left = self._left - len(shard)
        if not left:
            return
        seconds = time.monotonic() - self._start
        size = shard.path.stat().st_size * left / len(shard)
        free = shutil.disk_usage(self._folder).free
        say(
            f"{self._title}: {len(shard) / seconds:.0f} sentences/s; the other {left} will take "
            f"about {_duration(seconds * left / len(shard))} and {size / 1e6:.1f} MB of disk "
            f"({free / 1e9:.1f} GB are free)"
        )
        if size > free:
            raise PipelineError(
                f"the translations need {size / 1e9:.1f} GB more, and the disk has "
                f"{free / 1e9:.1f}: make room, give --runs another disk, or lower translate.n_best"
            )


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, and remove it where the block succeeds."""
    files.remove(folder)
    folder.mkdir(parents=True)
    yield folder
    files.remove(folder)


def _duration(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes:.0f} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"


def _listed(counts: dict[str, int] | Counter[str]) -> str:
    return ", ".join(f"{count} {what}" for what, count in counts.items())
