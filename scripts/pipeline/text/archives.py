"""The archives of a release: downloaded, or put there by hand; checked; and what is in them."""

from __future__ import annotations

import fnmatch
import gzip
import hashlib
import http.client
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.engine import files
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar

_BLOCK = 1 << 20
_ATTEMPTS = 5
_TIMEOUT_SECONDS = 60
_HEADERS = {"User-Agent": "ka-fairseq"}


@dataclass(frozen=True)
class Archive:
    """A file of a release.

    Attributes:
        name: of the file.
        what: says to a human what is in it.
        url: its public address.
        bytes: its size, or None where no source tells.
        checksum: ``ALGORITHM:HEX`` as `hashlib` names them, or None likewise.
        hint: where else to look, for the error that says it cannot be had.
    """

    name: str
    what: str
    url: str
    bytes: int | None = None
    checksum: str | None = None
    hint: str = ""


def load(section: Mapping[str, Mapping[str, Any]]) -> dict[str, Archive]:
    """Read the section `archives` of a pair's settings.

    Raises:
        PipelineError: a key is missing or unknown.
    """
    try:
        return {name: Archive(name=name, **values) for name, values in section.items()}
    except TypeError as error:
        raise PipelineError(f"text.archives in pair.yaml: {error}") from None


def get(archive: Archive, downloads: Path, by_hand: Path | None) -> Path:
    """Return where an archive is, after checking it.

    Args:
        archive: which.
        downloads: the folder to download into; what is there already is used.
        by_hand: the user's folder; nothing is downloaded where it is given.

    Raises:
        PipelineError: it is not there, cannot be downloaded, or is not what was released.
    """
    path = (by_hand or downloads) / archive.name
    if not path.exists():
        if by_hand is not None:
            raise PipelineError(f"{path} is missing: {_how_to_get(archive, by_hand)}")
        download(archive, path)
    check(archive, path)
    return path


def check(archive: Archive, path: Path) -> None:
    """Compare a file with what is known of the archive.

    Raises:
        PipelineError: its size or checksum is another.
    """
    size = path.stat().st_size
    if archive.bytes is not None and size != archive.bytes:
        fault = "is cut off" if size < archive.bytes else "is too long"
        raise PipelineError(
            f"{path} ({archive.what}) {fault}: {size} bytes instead of {archive.bytes}; remove it "
            "and get it again"
        )
    if archive.checksum is None:
        return
    algorithm, _, expected = archive.checksum.partition(":")
    digest = hashlib.new(algorithm)
    with path.open("rb") as file, _bytes_bar(f"checking {archive.name}", size) as progress:
        while block := file.read(_BLOCK):
            digest.update(block)
            progress.update(len(block))
    if digest.hexdigest() != expected:
        raise PipelineError(
            f"{path} ({archive.what}) is damaged or another release: its {algorithm} is "
            f"{digest.hexdigest()} instead of {expected}; remove it and get it again"
        )


def download(archive: Archive, path: Path) -> None:
    """Download an archive; go on where an earlier download was cut off.

    Raises:
        PipelineError: the address does not answer, or the connection is cut off again and again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    reason: Exception | str = ""
    with _bytes_bar(f"downloading {archive.name}", archive.bytes) as progress:
        for attempt in range(_ATTEMPTS):
            time.sleep(2**attempt - 1)
            try:
                if _download_rest(archive.url, part, progress):
                    part.replace(path)
                    return
                reason = "the connection was cut off"
            except urllib.error.HTTPError as error:
                reason = error
                if error.code < 500:  # asking again would get the same answer
                    break
            except (OSError, http.client.HTTPException) as error:
                reason = error
    kept = " (what has come is kept: the same command goes on from there)" if part.exists() else ""
    raise PipelineError(
        f"{archive.name} could not be downloaded: {reason}{kept}; or "
        f"{_how_to_get(archive, path.parent)}"
    )


def _download_rest(url: str, part: Path, progress: Any) -> bool:
    """Append to `part` what is missing; return whether it is whole now."""
    have = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers=_HEADERS)
    if have:
        request.add_header("Range", f"bytes={have}-")
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code != http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        if error.headers.get("Content-Range") == f"bytes */{have}":
            return True  # nothing is missing
        part.unlink()  # longer than what is served today
        return False
    with response:
        if response.headers.get_content_type() == "text/html":
            raise OSError("a web page answers, not the file")
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends all of it
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        progress.total = total
        progress.n = progress.initial = have
        with part.open("ab" if have else "wb") as file:
            while block := response.read(_BLOCK):
                file.write(block)
                progress.update(len(block))
    return total is None or part.stat().st_size == total


def extract(path: Path, patterns: Iterable[str], folder: Path) -> list[str]:
    """Write the members of a .tgz that match to `folder`, under their own names.

    The archive is read to its end, so that one that is cut off or damaged is found out.

    Args:
        path: the archive.
        patterns: shell patterns for names inside it.
        folder: where to.

    Returns:
        The names, sorted.

    Raises:
        PipelineError: it is no whole .tgz.
    """
    patterns = list(patterns)
    found = []
    try:
        with (
            path.open("rb") as compressed,
            _bytes_bar(f"unpacking {path.name}", path.stat().st_size) as progress,
            gzip.GzipFile(fileobj=_Counted(compressed, progress)) as plain,  # type: ignore[arg-type]
            tarfile.open(fileobj=plain, mode="r|") as tar,
        ):
            for member in tar:
                name = member.name.removeprefix("./")
                wanted = any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)
                if wanted and member.isfile() and ".." not in Path(name).parts:
                    content = tar.extractfile(member)
                    with files.written_whole(folder / name) as temporary, temporary.open("wb") as f:
                        while block := content.read(_BLOCK):  # type: ignore[union-attr]
                            f.write(block)
                    found.append(name)
            while plain.read(_BLOCK):  # up to gzip's own checksum
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PipelineError(f"{path} is cut off or damaged: {error}; get it again") from None
    return sorted(found)


class _Counted:
    """A file that moves a bar as it is read."""

    def __init__(self, file: BinaryIO, progress: Any) -> None:
        self._file = file
        self._progress = progress

    def read(self, size: int = -1) -> bytes:
        block = self._file.read(size)
        self._progress.update(len(block))
        return block


def _bytes_bar(title: str, total: int | None) -> Any:
    return bar(title=title, total=total, unit="B", unit_scale=True)


def _how_to_get(archive: Archive, folder: Path) -> str:
    hint = f" ({archive.hint})" if archive.hint else ""
    return (
        f"get {archive.what} from {archive.url}{hint} by hand, put it as {archive.name} into "
        f"{folder} and add --archives {folder}"
    )
