"""Manage a folder of translations: record their inputs, and find missing shards."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ka_fairseq.distill import shards
from ka_fairseq.distill.databin import DataBin, Text
from ka_fairseq.distill.shards import Shard
from ka_fairseq.errors import UserError
from ka_fairseq.teacher.cache import fingerprint
from ka_fairseq.teacher.cache.share import Share
from ka_fairseq.whole import written_whole

RECORD = "translations.json"
"""The file that records the inputs of the translations."""
_PER_FILE = "sentences a file"


@dataclass(frozen=True)
class Translations:
    """The translations of some texts.

    Attributes:
        folder: the folder, with `RECORD` and a folder of shards for each text.
        texts: the texts to translate.
        made_of: the inputs and options that the translations depend on.
    """

    folder: Path
    texts: tuple[Text, ...]
    made_of: Mapping[str, Any]

    @classmethod
    def begin(
        cls, folder: Path, texts: tuple[Text, ...], made_of: Mapping[str, Any]
    ) -> Translations:
        """Write `RECORD`, or compare an existing `RECORD` with `made_of`.

        Raises:
            UserError: an entry differs, or the folder cannot be written.
        """
        there = _read(folder)
        if there is None:
            if any(folder.glob("*/*.tsv")):
                raise UserError(
                    f"{folder} has translations but no {RECORD}, so their inputs are unknown: name "
                    "another folder, or delete this one"
                )
            write_json(folder / RECORD, made_of)
            return cls(folder, texts, made_of)
        differing = [key for key in made_of if there.get(key) != made_of[key]]
        if differing:
            what = ", ".join(
                f"{key} ({_short(there.get(key))} there, {_short(made_of[key])} here)"
                for key in differing
            )
            raise UserError(
                f"{folder} has translations with another {what}: use the earlier value, name "
                "another folder, or delete this one"
            )
        return cls(folder, texts, there)

    @classmethod
    def open(cls, folder: Path, data: DataBin) -> Translations:
        """Open existing translations.

        Raises:
            UserError: there are no translations, or they belong to another text.
        """
        there = _read(folder)
        if there is None:
            raise UserError(f"{folder} has no {RECORD}: translate again into another folder")
        changed = [t.name for t in data.texts if there.get(t.name) not in (None, source_of(t))]
        if changed:
            raise UserError(
                f"{folder} has translations of another text {changed[0]}: translate again into "
                "another folder"
            )
        return cls(folder, tuple(t for t in data.texts if there.get(t.name)), there)

    def shards(self, text: Text) -> list[Shard]:
        """Return all shards of a text, existing or missing."""
        return shards.divide(self.folder / text.name, len(text), self.made_of[_PER_FILE])

    def missing(self, share: Share) -> list[tuple[Text, Shard]]:
        """Return the missing shards of a share."""
        found = ((text, shard) for text in self.texts for shard in self.of_share(text, share))
        return [(text, shard) for text, shard in found if not shard.path.exists()]

    def of_share(self, text: Text, share: Share) -> Sequence[Shard]:
        """Return the shards of a text that belong to a share: every n-th shard."""
        return self.shards(text)[share.number - 1 :: share.of]


def source_of(text: Text) -> str:
    """Return the SHA-256 of the files with a text's sources."""
    return fingerprint.of_files(map(str, text.files))


def made_of(
    data: DataBin, teachers: Sequence[Path], search: Mapping[str, Any], per_file: int
) -> dict[str, Any]:
    """Return the inputs and options that translations depend on.

    Args:
        data: the texts and dictionaries.
        teachers: the checkpoints.
        search: the options of the search.
        per_file: sentences in a shard.
    """
    return {
        "teacher": [fingerprint.of_files([str(path)]) for path in teachers],
        "dictionaries": fingerprint.of_dictionaries(data.dictionaries),
        **{text.name: source_of(text) for text in data.texts},
        **search,
        _PER_FILE: per_file,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file completely or not at all.

    Raises:
        UserError: the system refuses the write.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(str(path)) as unfinished:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        Path(unfinished).write_text(f"{text}\n", encoding="utf-8", newline="\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON file. Return None if there is no file.

    Raises:
        UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged ({error}): delete the folder that has it") from None


def _read(folder: Path) -> dict[str, Any] | None:
    return read_json(folder / RECORD)


def _short(value: Any) -> str:
    return "nothing" if value is None else str(value)[:24]
