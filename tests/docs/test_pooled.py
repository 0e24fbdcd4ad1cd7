"""The pooled rows of docs/results/five-texts.md are what its commands print."""

from __future__ import annotations

import shlex

import pandas as pd
from pipeline import pool

from tests.doc_commands import lines
from tests.support import ROOT

PAGE = ROOT / "docs" / "results" / "five-texts.md"


def cells(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in row.split("|"))


def test_the_pooled_rows_are_those_of_the_committed_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    commands = [shlex.split(line)[1:] for line in lines(PAGE) if line.startswith("scripts/pool.sh")]
    told = {cells(row) for row in PAGE.read_text("utf-8").splitlines() if " − " in row}
    assert len(commands) == 2
    for words in commands:
        kept = ROOT / "docs" / "results" / f"{words.pop().partition('/')[2]}.csv"
        assert words.pop() == "--output"
        assert pool.main([*words, "--output", str(tmp_path)]) == 0
        rows = {cells(row) for row in capsys.readouterr().out.splitlines() if " − " in row}
        assert rows and rows <= told
        pd.testing.assert_frame_equal(pd.read_csv(kept), pd.read_csv(tmp_path / "pooled.csv"))
