"""Extract sentences from files of WMT and IWSLT: SGM and XML test sets, tagged training text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

from pipeline.engine.errors import PipelineError

_BLOCK = 1 << 20
# Lines of metadata precede each talk. Titles and descriptions are dropped too: the description is
# the same boilerplate in each talk, and the test sets have no such lines.
_METADATA = re.compile(
    r"\s*</?(url|keywords|speaker|talkid|title|description|reviewer|translator|doc|transcript"
    r"|content)\b[^>]*>",
    re.IGNORECASE,
)


def segments(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (id, text) of each ``<seg>`` of a test set, empty ones too, with entities resolved.

    The files are not well-formed XML: WMT's files have no root, others have a bare ``&``. So the
    function uses an HTML parser.

    Raises:
        PipelineError: the file is not UTF-8, or ends inside a segment.
    """
    parser = _Segments()
    try:
        with path.open(encoding="utf-8-sig") as file:
            while block := file.read(_BLOCK):
                parser.feed(block)
                yield from parser.take()
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path.name} is not valid UTF-8 ({error.reason})") from None
    parser.close()
    if parser.inside:
        raise PipelineError(f"{path.name} ends inside a segment: the file is cut off")
    yield from parser.take()


def tagged_lines(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the sentences of ``train.tags.*`` without metadata, with entities resolved."""
    for line in lines:
        text = line.decode("utf-8", errors="surrogateescape")
        if not _METADATA.match(text):
            if "&" in text:
                text = html.unescape(text)
            yield text.encode("utf-8", errors="surrogateescape")


class _Segments(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.inside = False
        self._id = ""
        self._text: list[str] = []
        self._done: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "seg":
            self.inside = True
            self._id = dict(attrs).get("id") or ""
            self._text = []

    def handle_endtag(self, tag: str) -> None:
        if tag == "seg" and self.inside:
            self.inside = False
            self._done.append((self._id, " ".join("".join(self._text).split())))

    def handle_data(self, data: str) -> None:
        if self.inside:
            self._text.append(data)

    def take(self) -> list[tuple[str, str]]:
        """Return the segments that ended since the last call."""
        done, self._done = self._done, []
        return done
