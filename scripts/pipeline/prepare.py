"""Stage `prepare`: plain text, a sentence a line, in ``text/{train,valid,test}.{src,tgt}``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import clean, corpus, files, given_teacher, split
from pipeline.errors import PipelineError
from pipeline.settings import Pair
from pipeline.sources import homeassistant, libreoffice, releases

Corpus = dict[str, list[tuple[str, str]]]


def inputs(pair: Pair) -> dict[str, Any]:
    """Return what the text depends on."""
    if pair.data_dir is None:
        # Where an archive comes from does not matter, only what it is.
        known = releases.checksums(pair.text)
        return {f"text.{key}": value for key, value in {**pair.text, **known}.items()}
    paths = [corpus.find(pair.data_dir, s, lang) for s in corpus.SPLITS for lang in pair.languages]
    return {
        "languages": pair.languages,
        "text.most": pair.text.get("most"),
        **({"text.cleaning": pair.text["cleaning"]} if "cleaning" in pair.text else {}),
        **{path.name: files.sha256(path) for path in paths},
    }


def run(pair: Pair) -> dict[str, Any]:
    """Write the text of all splits.

    Raises:
        PipelineError: see `corpus.read`, or no source of text can be reached.
    """
    with files.written_whole(pair.text_dir) as folder:
        folder.mkdir(parents=True)
        if pair.data_dir is None and "archives" in pair.text:
            return _release_text(pair, folder)
        if pair.data_dir is not None:
            licence = f"own corpus {pair.data_dir.name}"
            splits = corpus.read(pair.data_dir, pair.languages)
        else:
            licence, splits = _demo_text(pair)
        most = pair.text.get("most") or {}
        splits = {name: pairs[: most.get(name)] for name, pairs in splits.items()}
        if "cleaning" in pair.text:
            raw = {name: ((s.encode(), t.encode()) for s, t in splits[name]) for name in splits}
            return _clean_text(pair, folder, raw, licence)
        if empty := [name for name, pairs in splits.items() if not pairs]:
            raise PipelineError(f"no sentence pair is left for {', '.join(empty)}")
        for name, pairs in splits.items():
            for side, language in enumerate(pair.languages):
                files.write_lines(folder / f"{name}.{language}", [p[side] for p in pairs])
    counts = {name: len(pairs) for name, pairs in splits.items()}
    words = sum(len(target.split()) for _, target in splits["train"])
    return _facts(licence, counts, f" ({words} target words)")


def _facts(text: str, counts: dict[str, int], more: str) -> dict[str, Any]:
    print(
        f"prepare: {text}: {counts['train']} pairs to train on{more}, "
        f"{counts['valid']} for validation, {counts['test']} for test"
    )
    return {"text": text, "pairs": counts}


def _release_text(pair: Pair, folder: Path) -> dict[str, Any]:
    release = releases.Release.load(pair.text)
    unpacked = folder / "unpacked"
    release.unpack(pair.run_dir / "archives", pair.archives_dir, unpacked)
    most = pair.text.get("most") or {}
    raw = {
        part: itertools.islice(release.pairs(part, unpacked), most.get(part))
        for part in corpus.SPLITS
    }
    facts = _clean_text(pair, folder, raw, pair.text["name"])
    files.remove(unpacked)
    return facts


def _clean_text(
    pair: Pair, folder: Path, raw: Mapping[str, Iterable[clean.RawPair]], name: str
) -> dict[str, Any]:
    recipe = clean.Recipe.load(pair.languages, pair.text["cleaning"])
    counts, dropped = {}, ""
    for part, pairs in raw.items():
        outputs = tuple(folder / f"{part}.{language}" for language in pair.languages)
        if part == "train":
            found = clean.clean(pairs, recipe, outputs, title="cleaning train")
            dropped = ", ".join(f"{n} {why}" for why, n in sorted(found.dropped.items()) if n)
        else:
            # Scores of different systems compare only over the same lines, so all of them stay.
            if part == "test":
                pairs = _keep_raw(pairs, folder / pair.source.name, folder / pair.reference.name)
            found = clean.clean(pairs, recipe.unfiltered(), outputs, title=f"cleaning {part}")
        if not found.kept:
            raise PipelineError(f"no sentence pair is left for {part}")
        counts[part] = found.kept
    facts = _facts(name, counts, f" (dropped: {dropped})" if dropped else "")
    return {**facts, "dropped": dropped}


def _keep_raw(pairs: Iterable[clean.RawPair], *paths: Path) -> Iterator[clean.RawPair]:
    with contextlib.ExitStack() as stack:
        files = [
            stack.enter_context(path.open("w", encoding="utf-8", newline="\n")) for path in paths
        ]
        for sides in pairs:
            for side, file in zip(sides, files, strict=True):
                file.write(" ".join(side.decode("utf-8", errors="replace").split()) + "\n")
            yield sides


def _demo_text(pair: Pair) -> tuple[str, Corpus]:
    source = libreoffice if libreoffice.available() else homeassistant
    try:
        pairs = source.read_pairs()
    except PipelineError as error:
        if source is homeassistant:
            raise
        print(f"prepare: {error}")
        source = homeassistant
        pairs = source.read_pairs()
    if source is homeassistant:
        print(
            "prepare: without Debian's packages the text is that of Home Assistant's user "
            "interface: shorter and harder to learn from, so expect poorer translations"
        )
        if pair.teacher is not None and given_teacher.of(pair, source.LICENCE) is None:
            print("prepare: the teacher at hand is for other text, so one is trained here")
    kept = split.clean(pairs, pair.text["min_words"], pair.text["max_words"])
    return source.LICENCE, split.split(
        kept, pair.text["held_out_per_mille"], pair.text["held_out_min_words"]
    )
