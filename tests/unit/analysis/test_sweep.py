"""A sweep's results: which are chosen, and what is refused."""

from __future__ import annotations

import pytest

from ka_fairseq.analysis.sweep import read_results, sweep
from ka_fairseq.errors import UserError

RESULTS = """\
criterion,transfer_weight,top_k,bleu,chrf
forward_kl,0.5,0,20.5,40
backward_kl,0.3,8,21.0,41
backward_kl,0.5,8,21.4,40
backward_kl,0.5,0,20.9,42
backward_kl,0.5,16,21.1,40
backward_kl,0.7,8,21.4,43
"""


def write(folder, text=RESULTS):
    (folder / "results.csv").write_text(text)
    return folder / "results.csv"


def test_chooses_the_best_at_each_k(tmp_path):
    frame = sweep(read_results(write(tmp_path)))
    rows = frame[["criterion", "top_k", "transfer_weight", "bleu"]].values.tolist()
    assert rows == [
        ["backward_kl", 8, 0.5, 21.4],
        ["backward_kl", 16, 0.5, 21.1],
        ["backward_kl", 0, 0.5, 20.9],
        ["forward_kl", 0, 0.5, 20.5],
    ]


def test_another_metric(tmp_path):
    frame = sweep(read_results(write(tmp_path), "chrf"), "chrf")
    assert frame.transfer_weight.tolist() == [0.7, 0.5, 0.5, 0.5]


def test_says_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="no results at"):
        read_results(tmp_path / "none.csv")
    with pytest.raises(UserError, match="no column comet"):
        read_results(write(tmp_path), "comet")
    with pytest.raises(UserError, match="line 3: bleu"):
        read_results(write(tmp_path, RESULTS.replace("21.0", "failed")))
    with pytest.raises(UserError, match="no results: run"):
        read_results(write(tmp_path, RESULTS.splitlines()[0] + "\n"))
