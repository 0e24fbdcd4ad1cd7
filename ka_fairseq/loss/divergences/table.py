"""The table of formulas in docs/methods.md, from the docstrings."""

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
    """Markdown: a row for each divergence that is registered and says what it is."""
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
    """(column, text) of the paragraph ``Formula: …``, ``Source: …``, ``When: …``."""
    for column in COLUMNS:
        found = re.search(rf"^{column}: (.+(?:\n +.+)*)", docstring, re.MULTILINE)
        if found:
            yield column, re.sub(r"\s+", " ", found.group(1))


def _docstring(name: str) -> str:
    """The KLs are one class, and described by the functions of their names."""
    described_by = getattr(kl, name, None) or type(divergence_named(name))
    return inspect.getdoc(described_by) or ""


def _options(divergence: Divergence) -> str:
    own = [f"`{option.flag}` {option.default}" for option, _ in options_of(divergence).values()]
    top_k = ["`--top-k`"] if isinstance(divergence, kl.KLMixture) else []
    return ", ".join(own + top_k)
