"""Files inside of a page, as data addresses, so that it stays one file without network."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Figure:
    """A figure with the numbers that it is drawn from.

    Attributes:
        image: an SVG: a document of its own, so that no two share names.
        table: a CSV file.
        name: what to call that file.
    """

    image: str
    table: str
    name: str


def figure(path: Path, table: Path | None = None) -> Figure | None:
    """Return a figure, or None where it was not drawn.

    Args:
        path: without its suffix.
        table: its numbers, by default beside it.
    """
    image, table = Path(f"{path}.svg"), table or Path(f"{path}.csv")
    if not image.exists():
        return None
    return Figure(_address(image, "image/svg+xml"), _address(table, "text/csv"), table.name)


def _address(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
