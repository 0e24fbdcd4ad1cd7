"""Generate the table of formulas in docs/methods.md from the divergences' docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from ka_fairseq.loss.divergences import kl
from ka_fairseq.loss.divergences.base import Divergence
from ka_fairseq.loss.divergences.options import options_of
from ka_fairseq.loss.divergences.registry import divergence_named, divergence_names

COLUMNS = ("Formula", "Source", "When")


def table() -> str:
    """Return a Markdown table with a row for each registered divergence that describes itself."""
    lines = [
        "| `--divergence` | D | options | source | when to use it |",
        "|---|---|---|---|---|",
    ]
    for name in divergence_names():
        described = dict(parts(_docstring(name)))
        if described:
            formula, source, when = (described[c].replace("|", r"\|") for c in COLUMNS)
            options = _options(divergence_named(name))
            lines.append(f"| `{name}` | {formula} | {options} | {source} | {when} |")
    return "\n".join(lines) + "\n"


def parts(docstring: str) -> Iterator[tuple[str, str]]:
    """Yield (column, text) of the paragraph ``Formula: …``, ``Source: …``, ``When: …``."""
    for column in COLUMNS:
        found = re.search(rf"^{column}: (.+(?:\n +.+)*)", docstring, re.MULTILINE)
        if found:
            yield column, re.sub(r"\s+", " ", found.group(1))


def _docstring(name: str) -> str:
    """Return a divergence's docstring.

    The KLs share a class. Each KL has the docstring of the function of its name.
    """
    described_by = getattr(kl, name, None) or type(divergence_named(name))
    return inspect.getdoc(described_by) or ""


def _options(divergence: Divergence) -> str:
    own = [f"`{option.flag}` {option.default}" for option, _ in options_of(divergence).values()]
    top_k = ["`--top-k`"] if isinstance(divergence, kl.KLMixture) else []
    return ", ".join(own + top_k)
