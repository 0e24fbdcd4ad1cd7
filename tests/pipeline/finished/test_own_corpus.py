"""examples/own_corpus.sh, as it is written, on the project's small text."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import example

pytestmark = pytest.mark.slow


def test_a_corpus_becomes_a_folder_that_translates(finished, tmp_path):
    options = ("--quick", "--runs", tmp_path / "runs", "--jobs", 1)
    environment = {"OMP_NUM_THREADS": "1", "CONFIGS": str(finished.configs)}
    printed = example("own_corpus.sh", finished.data, "de", "en", *options, **environment)
    assert "| seq-Inter, then ½ KD + ½ KA" in printed
    (line,) = [line.strip() for line in printed.splitlines() if "translate.py" in line]
    translated = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert translated.stdout.count("\n") == 1
