"""Translate the sources of a data-bin with the teacher, shard by shard."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from torch import Tensor

from ka_fairseq.distill import databin, shards
from ka_fairseq.distill.databin import DataBin, Text
from ka_fairseq.distill.engines import Engine
from ka_fairseq.distill.search import Search
from ka_fairseq.distill.shards import Shard
from ka_fairseq.distill.telling import bar, tell
from ka_fairseq.distill.translations import Translations
from ka_fairseq.errors import UserError
from ka_fairseq.teacher.cache.share import Share


def translate(
    translations: Translations,
    data: DataBin,
    search: Search,
    share: Share,
    engine: Callable[[Path], Engine],
) -> None:
    """Translate the missing shards of a share; existing shards stay unchanged.

    Args:
        translations: the folder of translations.
        data: the texts.
        search: the options of the search.
        share: the part of the work that this process does.
        engine: a function that makes the engine, given a folder for its files. It is called only if
            a shard is missing.

    Raises:
        UserError: the engine is not available, or the disk has no room.
    """
    missing = translations.missing(share)
    if not missing:
        return
    total = sum(len(of) for text in data.texts for of in translations.of_share(text, share))
    left = sum(len(shard) for _, shard in missing)
    with _scratch(translations.folder / f"at-work-{share.number}-of-{share.of}") as scratch:
        at_work = engine(scratch)
        longest = min(search.longest, at_work.longest)
        tell(_listed_faults(data, longest))
        tell(f"{at_work.name} translates {left} of {total} sentences")
        with bar("translating", total, total - left) as progress:
            room = _DiskSpace(translations.folder, left)
            ends = total - left
            for text, shard in missing:
                found = dict(_sentences(text, shard, longest))
                seed = search.seed + shard.number
                shards.write(shard, at_work.at_work.translate(found, seed, progress.update))
                ends += len(shard)
                progress.update(ends - progress.n)  # counts also sentences without a translation
                room.check(shard)


def faults(text: Text, data: DataBin, longest: int) -> Counter[str]:
    """Count sentences that are empty, too long, or have types unknown to the teacher.

    Empty and too long sentences are not translated.

    Args:
        text: the sources.
        data: the data-bin with the dictionary.
        longest: the greatest length of a source, in subwords.
    """
    source, _ = data.dictionaries
    found = Counter({"empty": 0, "too long": 0, "with unknown types": 0})
    lengths = text.sizes - 1  # without the end of the sentence
    found["empty"] = int((lengths <= 0).sum())
    found["too long"] = int((lengths > longest).sum())
    fit = ((lengths > 0) & (lengths <= longest)).nonzero()[0]
    found["with unknown types"] = sum(
        databin.unknown(text.sources[line], source) for line in fit.tolist()
    )
    return found


def _listed_faults(data: DataBin, longest: int) -> str:
    counts: Counter[str] = Counter()
    for text in data.texts:
        counts.update(faults(text, data, longest))
    listed = ", ".join(f"{count} {what}" for what, count in counts.items())
    return f"{listed}; empty and too long sentences are not translated"


def _sentences(text: Text, shard: Shard, longest: int) -> Iterator[tuple[int, Tensor]]:
    """Yield the sentences to translate, without empty and too long ones."""
    for line in shard.lines:
        if 1 < text.sizes[line] <= longest + 1:
            yield line, text.sources[line]


class _DiskSpace:
    """A check that the remaining shards fit on the disk, judged by the size of the first shard."""

    def __init__(self, folder: Path, sentences: int) -> None:
        self._folder = folder
        self._left = sentences
        self._checked = False

    def check(self, shard: Shard) -> None:
        """Check the disk space at the first call; later calls do nothing.

        Raises:
            UserError: the disk has no room for the remaining shards.
        """
        if self._checked:
            return
        self._checked = True
        needed = shard.path.stat().st_size * (self._left - len(shard)) / len(shard)
        free = shutil.disk_usage(self._folder).free
        if needed > free:
            raise UserError(
                f"the translations need {needed / 1e9:.1f} GB more, and the disk of "
                f"{self._folder} has {free / 1e9:.1f} GB free: make room, give another folder, or "
                "lower --n-best"
            )


@contextlib.contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, and remove it after the block."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
