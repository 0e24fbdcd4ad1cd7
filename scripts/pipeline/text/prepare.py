"""Stage `prepare`: write one sentence per line to ``text/{train,valid,test}.{src,tgt}``."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.engine import files
from pipeline.engine.errors import PipelineError
from pipeline.engine.stage import Stage
from pipeline.models import pretrained_teacher
from pipeline.models.settings import Pair
from pipeline.text import clean, corpus, split
from pipeline.text.sources import homeassistant, libreoffice, releases

Corpus = dict[str, list[tuple[str, str]]]


def stage(pair: Pair) -> Stage:
    """Return the stage."""
    return Stage(
        "prepare",
        lambda slot: run(pair),
        lambda slot: inputs(pair),
        clear=lambda: files.remove(pair.files.text_dir),
    )


def inputs(pair: Pair) -> dict[str, Any]:
    """Return the settings and files that the text depends on."""
    return _inputs(pair, _splits(pair))


def test_inputs(pair: Pair, name: str) -> dict[str, Any]:
    """Return the settings and files that the text of a further test set depends on.

    Raises:
        PipelineError: there is no test set of this name.
    """
    if pair.files.data_dir is None:
        parts = {pair.tests[0], *pair.text.get("parts", ())} - {"train", "valid"}
        if name not in parts:
            raise PipelineError(
                f"{pair.name} has no test set {name}: choose from {', '.join(sorted(parts))}"
            )
    return _inputs(pair, {"test": name})


def _splits(pair: Pair) -> dict[str, str]:
    """Return the names of the splits that are made together."""
    return {split: pair.tests[0] if split == "test" else split for split in corpus.SPLITS}


def _inputs(pair: Pair, splits: Mapping[str, str]) -> dict[str, Any]:
    if pair.files.data_dir is None:
        # The contents of an archive matter, not its address.
        text = {**pair.text, **releases.checksums(pair.text)}
        text.pop("test", None)  # further test sets do not change this text
        if parts := text.get("parts"):
            text["parts"] = {name: parts.get(name) for name in splits.values()}
        return {f"text.{key}": value for key, value in text.items()}
    names = splits.values()
    paths = [
        corpus.find(pair.files.data_dir, name, lang) for name in names for lang in pair.languages
    ]
    return {
        "languages": pair.languages,
        "text.most": pair.text.get("most"),
        **({"text.cleaning": pair.text["cleaning"]} if "cleaning" in pair.text else {}),
        **{path.name: files.sha256(path) for path in paths},
    }


def run(pair: Pair) -> dict[str, Any]:
    """Write the text of all splits.

    Raises:
        PipelineError: see `corpus.read`; or no source of text is reachable.
    """
    with files.written_whole(pair.files.text_dir) as folder:
        folder.mkdir(parents=True)
        if pair.files.data_dir is None and "archives" in pair.text:
            return _release_text(pair, folder)
        if pair.files.data_dir is not None:
            licence = f"own corpus {pair.files.data_dir.name}"
            splits = corpus.read(pair.files.data_dir, pair.languages, pair.tests[0])
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
            _write(pair, name, pairs, folder)
    counts = {name: len(pairs) for name, pairs in splits.items()}
    words = sum(len(target.split()) for _, target in splits["train"])
    return _facts(licence, counts, f" ({words} target words)")


def write_test(pair: Pair, name: str, folder: Path) -> int:
    """Write the text of a further test set like the first one; return the number of sentences.

    Args:
        pair: the pair with the source of the text.
        name: the name of the test set: of files in a user's own corpus, or of parts of a release.
        folder: the output folder for ``test.{src,tgt}``.

    Raises:
        PipelineError: see `corpus.read_pairs` and `Release.pairs`.
    """
    if pair.files.data_dir is None:
        with _unpacked(pair, {"test": name}, folder) as raw:
            return _clean(pair, "test", raw["test"], folder).kept
    most = (pair.text.get("most") or {}).get("test")
    pairs = corpus.read_pairs(pair.files.data_dir, pair.languages, name)[:most]
    if "cleaning" in pair.text:
        raw = ((source.encode(), target.encode()) for source, target in pairs)
        return _clean(pair, "test", raw, folder).kept
    _write(pair, "test", pairs, folder)
    return len(pairs)


def _write(pair: Pair, split: str, pairs: list[tuple[str, str]], folder: Path) -> None:
    for side, language in enumerate(pair.languages):
        files.write_lines(folder / f"{split}.{language}", [p[side] for p in pairs])


def _facts(text: str, counts: dict[str, int], more: str) -> dict[str, Any]:
    print(
        f"prepare: {text}: {counts['train']} pairs to train on{more}, "
        f"{counts['valid']} for validation, {counts['test']} for test"
    )
    return {"text": text, "pairs": counts}


def _release_text(pair: Pair, folder: Path) -> dict[str, Any]:
    with _unpacked(pair, _splits(pair), folder) as raw:
        return _clean_text(pair, folder, raw, pair.text["name"])


@contextlib.contextmanager
def _unpacked(
    pair: Pair, splits: Mapping[str, str], folder: Path
) -> Iterator[dict[str, Iterable[clean.RawPair]]]:
    """Yield the pairs of each split of a release; the unpacked archives are temporary."""
    release = releases.Release.load(pair.text, splits)
    unpacked = folder / "unpacked"
    release.unpack(pair.files.run_dir / "archives", pair.files.archives_dir, unpacked)
    most = pair.text.get("most") or {}
    yield {
        split: itertools.islice(release.pairs(split, unpacked), most.get(split)) for split in splits
    }
    files.remove(unpacked)


def _clean_text(
    pair: Pair, folder: Path, raw: Mapping[str, Iterable[clean.RawPair]], name: str
) -> dict[str, Any]:
    found = {split: _clean(pair, split, pairs, folder) for split, pairs in raw.items()}
    counts = {split: cleaned.kept for split, cleaned in found.items()}
    dropped = ", ".join(f"{n} {why}" for why, n in sorted(found["train"].dropped.items()) if n)
    facts = _facts(name, counts, f" (dropped: {dropped})" if dropped else "")
    return {**facts, "dropped": dropped}


def _clean(pair: Pair, split: str, pairs: Iterable[clean.RawPair], folder: Path) -> clean.Counts:
    recipe = clean.Recipe.load(pair.languages, pair.text["cleaning"])
    outputs = tuple(folder / f"{split}.{language}" for language in pair.languages)
    if split != "train":
        # All lines stay: scores of different systems are comparable only over the same lines.
        recipe = recipe.unfiltered()
    if split == "test":
        pairs = _keep_raw(pairs, folder / pair.source.name, folder / pair.reference.name)
    found = clean.clean(pairs, recipe, outputs, title=f"cleaning {split}")
    if not found.kept:
        raise PipelineError(f"no sentence pair is left for {split}")
    return found


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
            "prepare: Debian's packages are not available, so the text is that of Home Assistant's "
            "user interface: shorter and harder to learn from, so expect poorer translations"
        )
        if pair.teacher is not None and pretrained_teacher.of(pair, source.LICENCE) is None:
            print("prepare: the available teacher is for other text, so a teacher is trained here")
    kept = split.clean(pairs, pair.text["min_words"], pair.text["max_words"])
    return source.LICENCE, split.split(
        kept, pair.text["held_out_per_mille"], pair.text["held_out_min_words"]
    )
