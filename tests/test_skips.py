"""tests/skips.py: an unexpected skip fails a run of CI's, and no other."""

import os
import subprocess
import sys

import pytest

from tests import skips
from tests.support import ROOT

SKIPPED = """\
import pytest

def test_that_runs():
    pass

@pytest.mark.skip(reason={reason!r})
def test_that_does_not():
    pass
"""
WHOLE_FILE = "import pytest\npytest.skip('no such thing', allow_module_level=True)\n"
EXPECTED = SKIPPED.format(reason="needs a GPU")
UNEXPECTED = SKIPPED.format(reason="broken")


@pytest.mark.parametrize(
    ("text", "ci", "code"),
    [(UNEXPECTED, "true", 1), (UNEXPECTED, "", 0), (EXPECTED, "true", 0), (WHOLE_FILE, "true", 1)],
    ids=["unexpected", "not CI", "expected", "a whole file"],
)
def test_what_a_skip_does_to_the_run(text, ci, code, tmp_path):
    """With a worker of pytest-xdist's, as ./scripts/test.sh has them."""
    (tmp_path / "test_it.py").write_text(text + "\ndef test_last(): pass\n", encoding="utf-8")
    (tmp_path / "test_other.py").write_text("def test_other(): pass\n", encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.skips", "-n1", "-q", "--rootdir", tmp_path],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stdout + run.stderr
    told = [line for line in run.stdout.splitlines() if line.startswith("error: skipped for")]
    assert len(told) == code and all("broken" in line or "no such" in line for line in told)


def test_what_torch_1_lacks_is_no_reason_with_torch_2():
    reasons = ["torch 1 has no compiler", "needs a GPU"]
    assert not skips.unexpected(reasons, "1.13.1")
    assert skips.unexpected(reasons, "2.13.0") == reasons[:1]
