"""The commands of the docs that start from a finished run of the demo."""

from __future__ import annotations

import math
import re

import pandas as pd
import pytest

from tests.doc_commands import block_with, run_block

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(finished, tmp_path):
    """A reader's folder, with the run where the docs have it."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(finished.run_dir)
    return tmp_path


def test_what_leaving_fairseq_costs(folder):
    printed = run_block(block_with("docs/deploy.md", "RUN=runs/demo"), folder)
    same = [(int(n), int(of)) for n, of in re.findall(r"^(\d+) of (\d+)$", printed, re.M)]
    assert len(same) == 2 and same[0][0] >= 0.95 * same[0][1]
    assert "BLEU" in printed or "bleu" in printed


def test_the_papers_figures(folder):
    """The ones that start from runs: a table for each command, and files with its numbers."""
    block = block_with("docs/paper.md", "ka_fairseq.analysis entropy")
    block = "\n".join(line for line in block.split("\n") if not line.startswith("pip install"))
    printed = run_block(block, folder)
    assert "usage: " in printed
    figures = folder / "figures"
    entropy = pd.read_csv(figures / "entropy.csv")
    assert set(entropy.run) == {"KD", "KA", "teacher"}
    types = len((folder / "runs" / "demo" / "bin" / "dict.en.txt").read_text("utf-8").splitlines())
    assert entropy.entropy_bits.between(0, math.log2(types), inclusive="neither").all()
    assert (figures / "entropy.png").is_file() and (figures / "toy.png").is_file()
