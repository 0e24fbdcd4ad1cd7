"""Reading tables as a report shows them, in Markdown and on its page."""

from __future__ import annotations

import re

from pipeline.results import page, tables


def table(text, head):
    """The rows of the Markdown table that has a column `head`, each by column."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if f" {head} " in line)
    rows = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.split("|")[1:-1]])
    heads, _, *cells = rows
    return {row[0]: dict(zip(heads, row, strict=True)) for row in cells}


def cells(row):
    """The texts of a row on the page."""
    texts = [cell.text_content().replace("\N{NO-BREAK SPACE}", " ") for cell in row]
    return [text.strip() for text in texts]


def assert_fits(document, table):
    """From the width at which the first column is kept narrow, whole tables must fit.

    A column is at least as wide as its longest part that has no place to break, and as its bars
    (which stand below their numbers there); 0.6 em is a wide font's mean character.
    """
    style = re.sub(r"@media \(min-width:.*?\n}\n", "", document.findtext(".//style"), flags=re.S)
    assert "nowrap" not in style

    def pixels(pattern):
        return 16 * float(re.findall(pattern + r" ?([\d.]+)rem", style)[-1])

    def width(head, cells):
        # Heads and the names of models break at any space.
        texts = [head, *(cells if head == "model" else map(page.unbroken, cells))]
        longest = max(len(part) for text in texts for part in text.split(" "))
        has_bars = any(isinstance(cell, tables.Difference) for cell in cells)
        bar = pixels(r"\.bar \{[^}]*; width:") if has_bars else 0
        return max(bar, 0.6 * pixels(r"table \{[^}]*font-size:") * longest)

    space = pixels(r"@media \(max-width:") - 2 * pixels(r"main \{ max[^}]*padding: \S+")
    widths = [width(head, [row[head] for row in table]) for head in table[0]]
    assert sum(widths) + 2 * len(widths) * pixels(r"th, td \{ padding: \S+") <= space
