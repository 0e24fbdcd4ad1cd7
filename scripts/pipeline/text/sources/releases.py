"""Read the text of a published release from the archives and files that ``pair.yaml`` lists."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.errors import PipelineError
from pipeline.text import archives, clean, markup
from pipeline.text.archives import Archive
from pipeline.text.corpus import SPLITS


@dataclass(frozen=True)
class Part:
    """Parallel files inside an archive.

    Attributes:
        archive: the archive's name.
        source: shell pattern for the names of the source files in the archive.
        target: the same for the target files; the n-th matches of both patterns belong together.
        lines: the number of pairs in the files, if a source states it.
    """

    archive: str
    source: str
    target: str
    lines: int | None = None


@dataclass(frozen=True)
class Release:
    """All text of a pair.

    Attributes:
        archives: the archives by name.
        splits: the parts of train, valid and test.
    """

    archives: Mapping[str, Archive]
    splits: Mapping[str, tuple[Part, ...]]

    @classmethod
    def load(cls, section: Mapping[str, Any], names: Mapping[str, str] | None = None) -> Release:
        """Read the section `text` of a pair's settings.

        Args:
            section: the section.
            names: the names in `parts` of the splits to read; by default all, by their own names.

        Raises:
            PipelineError: something in the section is missing or unknown.
        """
        known = archives.load(section["archives"])
        try:
            splits = {
                split: tuple(Part(**part) for part in section["parts"][name])
                for split, name in (names or dict(zip(SPLITS, SPLITS, strict=True))).items()
            }
        except (KeyError, TypeError) as error:
            raise PipelineError(f"text.parts in pair.yaml: {error}") from None
        for part in (part for parts in splits.values() for part in parts):
            if part.archive not in known:
                raise PipelineError(f"text.parts in pair.yaml: no archive {part.archive}")
        return cls(known, splits)

    def unpack(self, downloads: Path, by_hand: Path | None, folder: Path) -> None:
        """Get every archive of the splits, and unpack the needed files.

        Args:
            downloads: the folder for downloaded archives.
            by_hand: the user's folder with all archives; if given, nothing is downloaded.
            folder: the output folder, with a subfolder for each archive.

        Raises:
            PipelineError: an archive is unavailable or damaged.
        """
        for name, archive in self.archives.items():
            parts = [p for parts in self.splits.values() for p in parts if p.archive == name]
            if not parts:
                continue
            path = archives.get(archive, downloads, by_hand)
            patterns = [pattern for part in parts for pattern in (part.source, part.target)]
            archives.extract(path, patterns, folder / name)

    def pairs(self, split: str, folder: Path) -> Iterator[clean.RawPair]:
        """Yield the pairs of lines of a split, from the files that `unpack` wrote.

        Raises:
            PipelineError: files are missing or do not belong together, or the number of lines is
                wrong.
        """
        for part in self.splits[split]:
            count = 0
            for source, target in _matches(part, folder / part.archive):
                for pair in _read_pair(source, target):
                    count += 1
                    yield pair
            if part.lines is not None and count != part.lines:
                raise PipelineError(
                    f"{part.archive}: {part.source} has {count} lines instead of {part.lines}"
                )


def checksums(section: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section's key `archives`, reduced to the checksums."""
    if "archives" not in section:
        return {}
    return {"archives": {name: a.get("checksum") for name, a in section["archives"].items()}}


def _matches(part: Part, folder: Path) -> list[tuple[Path, Path]]:
    sources, targets = (sorted(folder.glob(pattern)) for pattern in (part.source, part.target))
    if not sources or len(sources) != len(targets):
        found = ", ".join(path.name for path in (*sources, *targets)) or "nothing"
        raise PipelineError(
            f"{part.archive} must hold {part.source} and as many {part.target}; it has {found}"
        )
    return list(zip(sources, targets, strict=True))


def _read_pair(source: Path, target: Path) -> Iterator[clean.RawPair]:
    if source.suffix in (".xml", ".sgm"):
        yield from _read_segments(source, target)
        return
    with source.open("rb") as first, target.open("rb") as second:
        yield from clean.read_parallel(_sentences(first), _sentences(second), source.name)


def _sentences(file: Any) -> Iterator[bytes]:
    lines = clean.stripped(file)
    return markup.tagged_lines(lines) if Path(file.name).name.startswith("train.tags.") else lines


def _read_segments(source: Path, target: Path) -> Iterator[clean.RawPair]:
    sides = [list(markup.segments(path)) for path in (source, target)]
    if len(sides[0]) != len(sides[1]):
        raise PipelineError(
            f"{source.name} has {len(sides[0])} segments but {target.name} has {len(sides[1])}"
        )
    for (source_id, source_text), (target_id, target_text) in zip(*sides, strict=True):
        if source_id != target_id:
            raise PipelineError(
                f"{source.name} has segment {source_id} where {target.name} has {target_id}"
            )
        yield source_text.encode(), target_text.encode()
