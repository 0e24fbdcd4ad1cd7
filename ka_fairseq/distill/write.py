"""Write a data-bin with a training split of chosen translations; all other files are copies."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fairseq.data import Dictionary, data_utils, indexed_dataset
from torch import Tensor
from tqdm import tqdm

from ka_fairseq.distill import databin, shards
from ka_fairseq.distill.choosers import Chooser, Sentence, chooser_named
from ka_fairseq.distill.databin import DataBin, Text
from ka_fairseq.distill.filters import Filters, fault
from ka_fairseq.distill.nearness import Nearness
from ka_fairseq.distill.shards import Candidate, Shard
from ka_fairseq.distill.telling import bar
from ka_fairseq.distill.translations import Translations, read_json, write_json
from ka_fairseq.errors import UserError

RECORD = "distill.json"
"""The file that records how a distilled data-bin was made."""
REFERENCES = "references"
"""The kind of a part that holds the original pairs. Such a part has no chooser."""

Pair = tuple[Tensor, Tensor]
"""Token ids of a source and of a target, with the ends of the sentences."""
Bar = Callable[[str, int], tqdm]


@dataclass(frozen=True)
class Part:
    """A part of the training split.

    Attributes:
        kind: a chooser's name, or `REFERENCES`.
        times: copies of each pair.
        translations: the translations to choose from; None for references.
        name: the part's name in the counts; by default `kind`.
    """

    kind: str
    times: int = 1
    translations: Translations | None = None
    name: str = ""


@dataclass(frozen=True)
class Choice:
    """How translations are chosen and filtered.

    Attributes:
        nearness: the metric for choosers.
        filters: the filters for translations.
        post_process: how to join subwords to words, as in fairseq's ``--remove-bpe``; None keeps
            subwords.
    """

    nearness: Nearness
    filters: Filters
    post_process: str | None


def write(
    data: DataBin,
    parts: Sequence[Part],
    choice: Choice,
    destdir: Path,
    record: Mapping[str, Any],
    bar: Bar = bar,
) -> dict[str, Any]:
    """Write a data-bin with a new training split, and with the same dictionaries, valid and test.

    Args:
        data: the data-bin that was translated.
        parts: the parts of the training split, in order.
        choice: how to choose translations.
        destdir: the folder to write.
        record: entries for `RECORD` besides the counts.
        bar: makes a progress bar, given a title and the number of sentences.

    Returns:
        The contents of `RECORD`.

    Raises:
        UserError: no translation is left, the folder is another data-bin, or the folder cannot be
            written.
    """
    check_destination(destdir, data)
    (destdir / RECORD).unlink(missing_ok=True)
    unfinished = destdir / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    kept: dict[str, dict[str, int]] = {}
    with _Split(unfinished / databin.TRAIN, data) as split:
        for part in parts:
            for source, target in _pairs(data, part, choice, kept, bar):
                split.add(source, target)
    for path in [*unfinished.iterdir()]:
        path.replace(destdir / path.name)
    unfinished.rmdir()
    for path in _others(data):
        shutil.copyfile(path, destdir / path.name)
    told = {**record, "pairs": split.pairs, "kept": kept}
    write_json(destdir / RECORD, told)
    return told


def check_destination(destdir: Path, data: DataBin) -> None:
    """Refuse a folder in which this command would replace another data-bin.

    Raises:
        UserError: the folder is the data-bin itself, or another data-bin.
    """
    if destdir.resolve() == data.folder.resolve():
        raise UserError(f"--destdir {destdir} is the data-bin itself: name another folder")
    foreign = sorted(destdir.glob(f"{databin.TRAIN}*.*-*.*")) if destdir.is_dir() else []
    if foreign and not (destdir / RECORD).exists() and not (destdir / "unfinished").exists():
        raise UserError(
            f"{destdir} has {foreign[0].name}, which this command did not write: name another "
            "folder"
        )


def done(destdir: Path, record: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the contents of `RECORD` if they agree with `record`, else None."""
    there = read_json(destdir / RECORD)
    same = there is not None and all(there.get(key) == record[key] for key in record)
    return there if same else None


class _Split:
    """A writer for the files of a split."""

    def __init__(self, prefix: Path, data: DataBin) -> None:
        self.pairs = 0
        source, target = data.languages
        self._prefixes = [f"{prefix}.{source}-{target}.{lang}" for lang in (source, target)]
        self._sizes = [len(dictionary) for dictionary in data.dictionaries]

    def __enter__(self) -> _Split:
        self._builders = [
            indexed_dataset.make_builder(indexed_dataset.data_file_path(prefix), "mmap", size)
            for prefix, size in zip(self._prefixes, self._sizes, strict=True)
        ]
        return self

    def __exit__(self, kind: type | None, *error: object) -> None:
        if kind is None:
            for prefix, builder in zip(self._prefixes, self._builders, strict=True):
                builder.finalize(indexed_dataset.index_file_path(prefix))

    def add(self, *sides: Tensor) -> None:
        """Add a pair of sentences."""
        self.pairs += 1
        for side, builder in zip(sides, self._builders, strict=True):
            builder.add_item(side)


def _pairs(
    data: DataBin, part: Part, choice: Choice, kept: dict[str, dict[str, int]], bar: Bar
) -> Iterator[Pair]:
    """Yield the pairs of a part, and store their counts in `kept`."""
    name = part.name or part.kind
    if part.kind == REFERENCES:
        (text,) = (text for text in data.texts if text.name == databin.TRAIN)
        if text.references is None:
            raise UserError(f"{data.folder} has no references: leave --keep-references out")
        kept[name] = {"kept": len(text)}
        for _ in range(part.times):
            yield from ((text.sources[n], text.references[n]) for n in range(len(text)))
        return
    assert part.translations is not None
    chosen = _Chosen(data, part.translations, chooser_named(part.kind), choice)
    with bar(f"choosing {name}", sum(map(len, part.translations.texts))) as progress:
        chosen.choose(progress)
    kept[name] = chosen.counts
    if not chosen.counts["kept"]:
        raise UserError(
            f"no translation is left to train on ({listed(chosen.counts)}): raise --max-ratio or "
            "--max-repeats, or check the teacher's translations"
        )
    for _ in range(part.times):
        yield from chosen


def listed(counts: Mapping[str, int]) -> str:
    """Return a text with the counts of dropped sentences, such as "2 duplicates dropped"."""
    found = sorted((why, n) for why, n in counts.items() if n and why != "kept")
    return (", ".join(f"{n} {why}" for why, n in found) or "none") + " dropped"


class _Chosen:
    """The choice of one chooser: it keeps the indices of chosen candidates; texts stay on disk."""

    def __init__(
        self, data: DataBin, translations: Translations, chooser: Chooser, choice: Choice
    ) -> None:
        self.counts: dict[str, int] = {}
        self._translations = translations
        self._chooser = chooser
        self._choice = choice
        self._source, self._target = data.dictionaries
        self._known = set(self._target.symbols[self._target.nspecial :])
        # The index of the chosen candidate of each sentence; -1 means no candidate.
        self._numbers = [np.full(len(text), -1, np.int32) for text in translations.texts]

    def choose(self, progress: tqdm) -> None:
        """Choose a candidate for each sentence, and apply the filters.

        Args:
            progress: the progress bar to update.
        """
        dropped: Counter[str] = Counter()
        hashes = [np.zeros(len(numbers), np.uint64) for numbers in self._numbers]
        for text, numbers, of_text in zip(
            self._translations.texts, self._numbers, hashes, strict=True
        ):
            for shard in self._translations.shards(text):
                self._choose(text, shard, numbers, of_text, dropped)
                progress.update(len(shard))
        if self._choice.filters.drop_duplicates:
            dropped["duplicates"] = _drop_repeated(self._numbers, hashes)
        there = sum(int((numbers >= 0).sum()) for numbers in self._numbers)
        self.counts = {"kept": there, **{why: n for why, n in sorted(dropped.items()) if n}}

    def __iter__(self) -> Iterator[Pair]:
        for text, numbers in zip(self._translations.texts, self._numbers, strict=True):
            for shard in self._translations.shards(text):
                if (numbers[shard.first : shard.last] < 0).all():
                    continue
                for line, found in zip(shard.lines, shards.read(shard), strict=True):
                    if (number := numbers[line]) >= 0:
                        yield text.sources[line], self._ids(found[number].text)

    def _choose(
        self,
        text: Text,
        shard: Shard,
        numbers: np.ndarray,
        hashes: np.ndarray,
        dropped: Counter[str],
    ) -> None:
        candidates = dict(zip(shard.lines, shards.read(shard), strict=True))
        asked = [line for line, found in candidates.items() if found]
        dropped["without translation"] += len(shard) - len(asked)
        sentences = [self._sentence(text, line, candidates[line]) for line in asked]
        chosen = self._chooser(sentences, self._choice.nearness)
        for line, number in zip(asked, chosen, strict=True):
            subwords = candidates[line][number].text
            if reason := self._fault(text.sources[line], subwords):
                dropped[reason] += 1
            else:
                numbers[line] = number
                hashes[line] = _hash(text.sources[line], subwords)

    def _sentence(self, text: Text, line: int, found: Sequence[Candidate]) -> Sentence:
        how = self._choice.post_process
        reference = None if text.references is None else text.references[line]
        return Sentence(
            self._words(text.sources[line], self._source),
            [Candidate(one.score, data_utils.post_process(one.text, how)) for one in found],
            None if reference is None else self._words(reference, self._target),
        )

    def _words(self, sentence: Tensor, dictionary: Dictionary) -> str:
        text = " ".join(databin.subwords(sentence, dictionary))
        return data_utils.post_process(text, self._choice.post_process)

    def _fault(self, source: Tensor, target: str) -> str | None:
        subwords = target.split(" ") if target else []
        if not self._known.issuperset(subwords):
            return "with unknown types"
        return fault(databin.subwords(source, self._source), subwords, self._choice.filters)

    def _ids(self, subwords: str) -> Tensor:
        ids = [self._target.index(subword) for subword in subwords.split(" ")]
        return torch.tensor([*ids, self._target.eos()])


def _drop_repeated(numbers: Sequence[np.ndarray], hashes: Sequence[np.ndarray]) -> int:
    """Drop repeated pairs in place, and return their number.

    Pairs with the same hash count as repeated. Among five million different pairs, two share a hash
    with a probability of one in a million.
    """
    chosen = np.concatenate([of_text >= 0 for of_text in numbers]).nonzero()[0]
    _, first = np.unique(np.concatenate(hashes)[chosen], return_index=True)
    repeated = np.delete(chosen, first)
    start = 0
    for of_text in numbers:
        here = repeated[(repeated >= start) & (repeated < start + len(of_text))]
        of_text[here - start] = -1
        start += len(of_text)
    return len(repeated)


def _hash(source: Tensor, target: str) -> int:
    content = source.numpy().astype(np.int64).tobytes() + target.encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def _others(data: DataBin) -> list[Path]:
    """Return the files of the dictionaries and of all splits except the training split."""
    found = list(dict.fromkeys(data.dictionary_files))
    source, target = data.languages
    for order in (f"{source}-{target}", f"{target}-{source}"):
        for language in (source, target):
            found += sorted(data.folder.glob(f"*.{order}.{language}*"))
    return [path for path in found if not path.name.startswith(databin.TRAIN)]
