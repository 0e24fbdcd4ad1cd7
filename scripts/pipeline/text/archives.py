"""Get the archives of a release (by download or by hand), check them, and extract files."""

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
        name: the file name.
        what: a description of the contents, for messages.
        url: the public address.
        bytes: the size, or None if no source states a size.
        checksum: ``ALGORITHM:HEX`` with a name of `hashlib`, or None if no source states one.
        hint: another place to look, for the error if the archive is unavailable.
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
    """Return the path of an archive, after a check.

    Args:
        archive: the archive.
        downloads: the folder for downloads; a file that is already there is used.
        by_hand: the user's folder; if given, nothing is downloaded.

    Raises:
        PipelineError: the archive is missing, cannot be downloaded, or fails the check.
    """
    path = (by_hand or downloads) / archive.name
    if not path.exists():
        if by_hand is not None:
            raise PipelineError(f"{path} is missing: {_how_to_get(archive, by_hand)}")
        download(archive, path)
    check(archive, path)
    return path


def check(archive: Archive, path: Path) -> None:
    """Compare a file with the known size and checksum of the archive.

    Raises:
        PipelineError: the size or the checksum differs.
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
    """Download an archive; continue an earlier download that was cut off.

    Raises:
        PipelineError: the address does not answer, or the connection breaks repeatedly.
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
                if error.code < 500:  # a retry would get the same answer
                    break
            except (OSError, http.client.HTTPException) as error:
                reason = error
    kept = " (the part so far is kept: run the same command to continue)" if part.exists() else ""
    raise PipelineError(
        f"{archive.name} could not be downloaded: {reason}{kept}; or "
        f"{_how_to_get(archive, path.parent)}"
    )


def _download_rest(url: str, part: Path, progress: Any) -> bool:
    """Append the missing rest to `part`; return whether the file is complete."""
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
            return True  # the file is complete
        part.unlink()  # longer than the file on the server
        return False
    with response:
        if response.headers.get_content_type() == "text/html":
            raise OSError("the server sent a web page instead of the file")
        if response.status != http.HTTPStatus.PARTIAL_CONTENT:
            have = 0  # the server sends the whole file
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
    """Extract the matching members of a .tgz into `folder`, under their own names.

    The function reads the archive to the end, so it finds a cut or damaged archive.

    Args:
        path: the archive.
        patterns: shell patterns for names inside the archive.
        folder: the output folder.

    Returns:
        The names, sorted.

    Raises:
        PipelineError: the archive is not a complete .tgz.
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
            while plain.read(_BLOCK):  # reads up to gzip's checksum
                pass
    except (tarfile.TarError, EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise PipelineError(f"{path} is cut off or damaged: {error}; get it again") from None
    return sorted(found)


class _Counted:
    """A file that advances a progress bar with each read."""

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
        f"download {archive.what} from {archive.url}{hint} by hand, save it as {archive.name} in "
        f"{folder} and add --archives {folder}"
    )
