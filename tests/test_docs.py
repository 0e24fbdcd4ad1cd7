"""What the documents name is there."""

import re

import pytest

from tests.support import ROOT

NAMED = re.findall(r"`([\w/]+\.py)::(\w+)`", (ROOT / "docs" / "reliability.md").read_text("utf-8"))


def test_the_table_names_tests():
    assert len(NAMED) > 30


@pytest.mark.parametrize(("file", "test"), NAMED, ids=[test for _, test in NAMED])
def test_a_promise_has_its_test(file, test):
    assert f"\ndef {test}(" in (ROOT / "tests" / file).read_text("utf-8")
