"""The commands of the docs that start from a finished run of the demo."""

from __future__ import annotations

import re

import pytest

from tests.doc_commands import block_with, run_block

pytestmark = [pytest.mark.slow, pytest.mark.extended]


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
    """The ones that start from runs."""
    block = block_with("docs/paper.md", "ka_fairseq.analysis entropy")
    block = "\n".join(line for line in block.split("\n") if not line.startswith("pip install"))
    printed = run_block(block, folder)
    assert "usage: " in printed
