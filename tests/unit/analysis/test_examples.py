"""The examples run as they are written."""

from __future__ import annotations

import functools
import os
import runpy
import subprocess
import sys

import pytest

from ka_fairseq.analysis import toy
from ka_fairseq.analysis.__main__ import main
from tests.support import ROOT

EXAMPLES = ROOT / "examples"

pytestmark = pytest.mark.extended


def run_python(name: str, monkeypatch, *arguments: object) -> None:
    """Run a script as the main program, in this process: Python and torch start slowly."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_toy_task(monkeypatch, capsys):
    run_python("toy_task.py", monkeypatch, ".33", ".20", ".30", ".17")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:2] == ["generalized", "forward"]
    assert [float(value) for value in lines[1].split()[3:5]] == [0.4, 0.3]


def test_compare_runs(trained, monkeypatch, capsys):
    named = [f"{name}={folder}" for name, folder in trained.folders.items()]
    run_python("compare_runs.py", monkeypatch, trained.data, trained.start, *named)
    header, *rows = capsys.readouterr().out.splitlines()
    assert {"entropy_bits", "novel"} <= set(header.split())
    assert len(rows) == 8


def test_cache_precision(trained, monkeypatch, capsys):
    run_python("cache_precision.py", monkeypatch, trained.data, trained.teacher, 400)
    rows = {line[:40].strip(): line.split()[-2:] for line in capsys.readouterr().out.splitlines()}
    cost = {name: float(rows[name][1]) for name in ("fp16", "bf16", "int8")}
    assert 0 <= cost["fp16"] < cost["bf16"] < 1e-2 and 0 < cost["int8"] < 1e-2
    size = {name: int(rows[name][0]) for name in cost}
    assert size["fp16"] == size["bf16"] > size["int8"]


def test_cache_throughput(tmp_path, monkeypatch, capsys):
    run_python("cache_throughput.py", monkeypatch, tmp_path, 16, 40)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["fp16, written", "fp16, read"]
    assert len(lines) == 6 and not list(tmp_path.iterdir())


def test_figures(trained, tmp_path, monkeypatch):
    """The command lines that the script makes, run in this process."""
    results, called = tmp_path / "results.csv", tmp_path / "called"
    results.write_text("criterion,transfer_weight,top_k,bleu\nbackward_kl,0.5,8,20\n")
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\necho "$@" >> {called}\n')
    python.chmod(0o755)
    files = [trained.teacher, trained.start, *trained.folders.values(), tmp_path / "out", results]
    subprocess.run(
        ["bash", EXAMPLES / "figures.sh", trained.data, *files],
        env={**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"},
        check=True,
    )
    monkeypatch.setattr(toy, "random_starts", functools.partial(toy.random_starts, 50))
    for line in called.read_text().splitlines():
        arguments = line.removeprefix("-m ka_fairseq.analysis ").split()
        main(arguments + ["--map-step=0.1"] * (arguments[0] == "toy"))  # coarse, to be quick
        assert (tmp_path / "out" / f"{arguments[0]}.png").is_file()
    assert len(list((tmp_path / "out").glob("*.svg"))) == 8  # toy has a map, too
