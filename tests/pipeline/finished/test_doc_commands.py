"""The commands of the docs that start from a finished run of the demo."""

from __future__ import annotations

import math
import re

import pandas as pd
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


def test_the_papers_figures_are_drawn_from_runs(folder):
    """The learner's entropy after each epoch; with the control, as no KD was trained here."""
    block = block_with("docs/paper.md", "ka_fairseq.analysis entropy")
    block = "\n".join(line for line in block.split("\n") if not line.startswith("pip install"))
    run_block(block, folder, ("KD=runs/demo/kd", "KD=runs/demo/control"))
    sure = pd.read_csv(folder / "figures" / "entropy.csv")
    for run in ("KD", "KA"):
        of_run = sure[sure.run == run].set_index("epoch").entropy_bits
        assert list(of_run.index) == [0, 1] and of_run.gt(0).all()
        assert of_run[0] == sure[sure.run == "KD"].entropy_bits.iloc[0]  # the same learner
    types = len((folder / "runs" / "demo" / "bin" / "dict.en.txt").read_text("utf-8").splitlines())
    assert sure.entropy_bits.between(0, math.log2(types), inclusive="neither").all()
    for name in ("entropy", "toy", "toy_map"):
        assert (folder / "figures" / f"{name}.svg").is_file()
