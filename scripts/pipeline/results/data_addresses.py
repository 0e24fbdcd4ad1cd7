"""Embed files in a page as data addresses: the page is one file and needs no network."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A figure with its numbers.

    Attributes:
        image: an SVG; as a separate document it shares no names with other figures.
        table: a CSV file.
        name: the name of the CSV file.
    """

    image: str
    table: str
    name: str


def figure(path: Path, table: Path | None = None) -> Figure | None:
    """Return a figure, or None if its file does not exist.

    Args:
        path: the image without its suffix.
        table: the numbers, by default beside the image.
    """
    image, table = Path(f"{path}.svg"), table or Path(f"{path}.csv")
    if not image.exists():
        return None
    return Figure(_address(image, "image/svg+xml"), _address(table, "text/csv"), table.name)


def _address(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
