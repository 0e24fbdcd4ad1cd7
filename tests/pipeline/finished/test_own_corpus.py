"""examples/own_corpus.sh, as it is written, on the project's small text."""

from __future__ import annotations

import subprocess

import pytest

from tests.support import example

pytestmark = [pytest.mark.slow, pytest.mark.extended]


def test_a_corpus_becomes_a_folder_that_translates(finished):
    # What it has in common with the finished pipeline is there already, as after a kill: CI has no
    # time for a second teacher.
    name = finished.name
    # What --train-teacher calls the run.
    own = finished.copied("runs of the example", name=f"{name}-train-teacher")
    options = ("--quick", "--runs", own.home / own.runs, "--name", name, "--jobs", 1)
    environment = {"OMP_NUM_THREADS": "1", "CONFIGS": str(finished.configs)}
    printed = example("own_corpus.sh", finished.data, "de", "en", *options, **environment)
    for stage in ("binarize", "teacher", "control"):
        assert f"\n{stage}: done already\n" in f"\n{printed}"
    assert "| KD on seq-Inter" in printed
    (line,) = [line.strip() for line in printed.splitlines() if "translate.py" in line]
    translated = subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True)
    assert translated.stdout.count("\n") == 1
