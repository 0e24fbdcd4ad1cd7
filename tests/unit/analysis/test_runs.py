"""Finding a run's checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.analysis.runs import Run, find_run, parse_named_paths, spread
from ka_fairseq.errors import UserError


def test_epochs_in_order_and_nothing_else(tmp_path):
    names = ("checkpoint10.pt", "checkpoint2.pt", "checkpoint1.pt", "checkpoint_best.pt")
    for name in (*names, "checkpoint_last.pt", "checkpoint_1_200.pt", "checkpoint3.pt.tmp"):
        (tmp_path / name).touch()
    run = find_run("KA", tmp_path)
    assert list(run.checkpoints) == [1, 2, 10]
    assert run.last == tmp_path / "checkpoint10.pt"
    assert list(find_run("KA", tmp_path, tmp_path / "learner.pt").checkpoints) == [0, 1, 2, 10]


def test_says_what_is_missing(tmp_path):
    with pytest.raises(UserError, match="no folder"):
        find_run("KA", tmp_path / "nowhere")
    (tmp_path / "checkpoint_best.pt").touch()
    with pytest.raises(UserError, match="--no-epoch-checkpoints"):
        find_run("KA", tmp_path)


@given(st.integers(1, 60), st.integers(2, 12))
def test_spread_keeps_both_ends(epochs, most):
    run = Run("KA", {epoch: Path(f"{epoch}.pt") for epoch in range(epochs)})
    kept = list(spread(run, most).checkpoints)
    assert len(kept) == min(most, epochs)
    assert kept == sorted(set(kept))
    assert (kept[0], kept[-1]) == (0, epochs - 1)


def test_named_paths():
    assert parse_named_paths(["KD=a", "KA=b=c"]) == {"KD": Path("a"), "KA": Path("b=c")}
    for wrong in ("KD", "=a", "KD="):
        with pytest.raises(UserError, match="NAME=PATH"):
            parse_named_paths([wrong])
    with pytest.raises(UserError, match="two runs"):
        parse_named_paths(["KD=a", "KD=b"])
