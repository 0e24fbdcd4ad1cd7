"""German-English sentences from Debian's packages of the LibreOffice help (MPL-2.0)."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from lxml import etree
from lxml import html as lxml_html

from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar

PACKAGES = ("libreoffice-help-de", "libreoffice-help-en-us")
LICENCE = "LibreOffice help, MPL-2.0, from Debian's packages " + " and ".join(PACKAGES)
_TEXT_IDS = ("par_", "hd_", "tit_")

Pair = tuple[str, str]


def available() -> bool:
    """Return whether this machine has the two Debian tools that fetch and open the packages."""
    return shutil.which("apt-get") is not None and shutil.which("dpkg-deb") is not None


def read_pairs() -> list[Pair]:
    """Download both packages into a temporary folder and align their pages.

    Returns:
        (German, English) pairs in the order of the pages.

    Raises:
        PipelineError: the packages cannot be downloaded or opened.
    """
    with tempfile.TemporaryDirectory(prefix="ka-fairseq-") as folder:
        root = Path(folder)
        _download(root)
        for package in root.glob("*.deb"):
            _run(["dpkg-deb", "-x", str(package), str(root / "tree")], root)
        help_root = root / "tree/usr/share/libreoffice/help"
        return list(align_trees(help_root / "de/text", help_root / "en-US/text"))


def align_trees(german: Path, english: Path) -> Iterator[Pair]:
    """Yield the pairs of all pages that are in both folders."""
    pages = sorted(path.relative_to(english) for path in english.rglob("*.html"))
    if not pages:
        raise PipelineError(f"no help pages below {english}: does the package have a new layout?")
    for page in bar(pages, "aligning pages"):
        if (german / page).exists():
            yield from align_page((german / page).read_bytes(), (english / page).read_bytes())


def align_page(german: bytes, english: bytes) -> list[Pair]:
    """Pair the paragraphs of one page in two languages.

    Ids repeat inside a page, as a paragraph may be shown twice. A lookup by id would pair repeated
    paragraphs wrongly. So the function compares the *sequences* of ids.

    Returns:
        The pairs; an empty list if the sequences differ, as the page changed after its translation.
    """
    source, target = _paragraphs(german), _paragraphs(english)
    if [key for key, _ in source] != [key for key, _ in target]:
        return []
    return [(s, t) for (_, s), (_, t) in zip(source, target, strict=True) if s and t]


def _paragraphs(page: bytes) -> list[Pair]:
    """Return (id, text) of each paragraph, heading and title, in the order of the page."""
    try:
        # The pages are UTF-8, but their <meta> states this only after the title.
        tree = lxml_html.document_fromstring(page, parser=lxml_html.HTMLParser(encoding="utf-8"))
    except etree.ParserError:  # an empty page
        return []
    return [
        (element.get("id"), " ".join(element.text_content().split()))
        for element in tree.iter(etree.Element)
        if element.get("id", "").startswith(_TEXT_IDS)
    ]


def _download(folder: Path) -> None:
    try:
        _run(["apt-get", "download", *PACKAGES], folder)
    except PipelineError:
        # A new container has no package lists. Root rights are needed to fetch the lists.
        if os.geteuid() != 0:
            raise
        _run(["apt-get", "update"], folder)
        _run(["apt-get", "download", *PACKAGES], folder)


def _run(command: list[str], folder: Path) -> None:
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        lines = [line for line in result.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else f"exit code {result.returncode}"
        raise PipelineError(f"`{' '.join(command)}` failed: {reason}")
