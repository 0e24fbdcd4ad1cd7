"""The table of formulas in docs/methods.md."""

import inspect

from ka_fairseq.loss.divergences import divergence_named, divergence_names, registry
from ka_fairseq.loss.divergences.table import COLUMNS, parts, table
from tests.support import ROOT


def test_the_document_has_the_docstrings_table():
    """As ``python -m ka_fairseq.loss.divergences`` prints it."""
    assert table() in (ROOT / "docs" / "methods.md").read_text("utf-8")


def test_every_divergence_of_the_package_has_a_row():
    rows = table().splitlines()[2:]
    assert [row.split("`")[1] for row in rows] == divergence_names()
    assert all(row.replace(r"\|", "").count("|") == 6 for row in rows)


def test_options_stand_with_their_defaults(monkeypatch):
    monkeypatch.setattr(registry, "DIVERGENCES", {"own": divergence_named("js")})
    (row,) = table().splitlines()[2:]
    assert "`--js-beta` 0.5" in row and "top-k" not in row


def test_paragraphs_end_with_their_indentation():
    docstring = inspect.cleandoc(
        """A name.

        Formula: one
            and two
        Source: three
        When: four

        More text.
        """
    )
    assert dict(parts(docstring)) == dict(
        zip(COLUMNS, ("one and two", "three", "four"), strict=True)
    )
