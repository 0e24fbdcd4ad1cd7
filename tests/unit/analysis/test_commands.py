"""Every command as a user types it."""

from __future__ import annotations

import pandas as pd
import pytest

from ka_fairseq.analysis.__main__ import main
from ka_fairseq.errors import UserError
from tests.support import run


@pytest.fixture
def out(tmp_path):
    return tmp_path / "new folder" / "figure"


def assert_written(out, *more: str) -> pd.DataFrame:
    """The table; the figures and whatever else the command writes are there too."""
    names = {file.name for file in out.parent.iterdir()}
    assert names == {f"{out.name}{end}" for end in (".csv", ".png", ".svg", *more)}
    assert (out.parent / f"{out.name}.png").read_bytes()[:4] == b"\x89PNG"
    assert "<svg" in (out.parent / f"{out.name}.svg").read_text(encoding="utf-8")
    return pd.read_csv(f"{out}.csv")


def test_derivatives(out):
    main(["derivatives", f"--out={out}"])
    assert set(assert_written(out).columns) >= {"y", "p", "q", "forward", "backward"}


def test_toy(out):
    main(["toy", f"--out={out}", "--form=tail", "--epochs=20", "--no-map"])
    frame = assert_written(out)
    assert set(frame.form) == {"tail"} and frame.epoch.max() == 20


def test_entropy(out, trained):
    main(["entropy", f"--out={out}", *trained.run_options, f"--teacher-path={trained.teacher}"])
    frame = assert_written(out)
    assert list(frame.run) == ["KD"] * 4 + ["KA"] * 4 + ["teacher"]
    assert (frame.entropy_bits > 0).all()


def test_novel_tokens(out, trained):
    main(["novel-tokens", f"--out={out}", *trained.run_options, "--sentences=20", "--top-k=4"])
    assert list(assert_written(out).epoch) == [0, 1, 2, 3] * 2


def test_top_tokens_at_a_place(out, trained, capsys):
    place = ("--sentence=1", "--position=2", "--epochs=3")
    main(["top-tokens", f"--out={out}", *trained.run_options, *place])
    frame = assert_written(out, ".md")
    assert list(frame.epoch.unique()) == [0, 2, 3]
    assert len(frame) == 2 * 3 * 10
    assert "| epoch" in capsys.readouterr().out


def test_top_tokens_finds_a_place(out, trained):
    main(["top-tokens", f"--out={out}", *trained.run_options, "--find=3"])
    assert_written(out, ".md", "_found.csv")
    assert len(pd.read_csv(f"{out}_found.csv")) == 3


def test_agreement(out, trained):
    runs = [f"--run=KA={trained.runs[1].last}", f"--run=learner={trained.start}"]
    data = [f"--data={trained.data}", f"--teacher-path={trained.teacher}", "--cpu"]
    main(["agreement", f"--out={out}", *runs, *data])
    frame = assert_written(out, "_calibration.csv", "_by_position.csv")
    assert list(frame.run) == ["teacher", "KA", "learner"]


def test_sweep(out, tmp_path):
    results = tmp_path / "results.csv"
    results.write_text("criterion,top_k,bleu\nbackward_kl,8,20\nforward_kl,0,19\n")
    main(["sweep", f"--out={out}", f"--results={results}"])
    assert len(assert_written(out)) == 2


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["toy", "--start", "1", "1", "1", "1"], "sum to 1"),
        (["toy", "--epochs", "0"], "--epochs"),
        (["toy", "--map-step", "1"], "--map-step"),
        (["sweep", "--results", "nowhere.csv"], "--results"),
        (["entropy", "--data", "bin", "--run", "KA=nowhere"], "check the path"),
        (["entropy", "--data", "bin", "--run", "KA"], "NAME=PATH"),
        (["entropy", "--data", "bin", "--run", "KA=.", "--start", "nowhere.pt"], "--start"),
        (["agreement", "--data", "b", "--run", "KA=no.pt", "--teacher-path", "t"], "no checkpoint"),
        (["top-tokens", "--data", "bin", "--run", "KA=."], "--find"),
        (["top-tokens", "--data", "bin", "--run", "KA=.", "--sentence", "1"], "--find"),
    ],
)
def test_says_what_to_change(arguments, advice, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=advice) as error:
        main(arguments)
    assert "\n" not in str(error.value.code)


def test_help_names_every_command():
    result = run("python", "-m", "ka_fairseq.analysis", "--help")
    for name in ("derivatives", "toy", "entropy", "novel-tokens", "top-tokens", "sweep"):
        assert f"\n    {name}" in result.stdout
    assert "agreement" in result.stdout
