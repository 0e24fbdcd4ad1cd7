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

@pytest.mark.skip(reason={!r})
def test_that_does_not():
    pass
"""
FILES = {
    "test_expected.py": SKIPPED.format("needs a GPU"),
    "test_unexpected.py": SKIPPED.format("broken"),
    "test_whole_file.py": "import pytest\npytest.skip('no such thing', allow_module_level=True)\n",
}


@pytest.mark.parametrize(
    ("ci", "code", "told"), [("true", 1, ["broken", "no such thing"]), ("", 0, [])]
)
def test_unexpected_skips_fail_a_run_of_cis(ci, code, told, tmp_path):
    """With a worker of pytest-xdist's, as ./scripts/test.sh has them."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    plugins = ("-p", "xdist", "-p", "tests.skips")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-n1", "-q", "--rootdir", tmp_path],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == code, run.stdout + run.stderr
    errors = [line for line in run.stdout.splitlines() if line.startswith("error: skipped for")]
    assert sorted(line.rpartition(": ")[2] for line in errors) == told


def test_what_torch_1_lacks_is_no_reason_with_torch_2():
    reasons = ["torch 1 has no compiler", "needs a GPU"]
    assert not skips.unexpected(reasons, "1.13.1")
    assert skips.unexpected(reasons, "2.13.0") == reasons[:1]
