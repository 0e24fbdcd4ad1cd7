"""Stages as jobs: what sbatch is asked for. On a real SLURM: finished/test_slurm.py."""

from __future__ import annotations

import json
import os
import sys

import pytest
from pipeline import stages, submit
from pipeline.__main__ import main
from pipeline.engine import state
from pipeline.engine.errors import PipelineError

SBATCH = """#!{python}
import json, os, pathlib, sys
file = pathlib.Path({calls!r})
calls = json.loads(file.read_text()) if file.exists() else []
calls.append({{"words": sys.argv[1:], "script": sys.stdin.read()}})
file.write_text(json.dumps(calls))
print(100 + len(calls))
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """What a stand-in for sbatch was called with, so far."""
    file, program = tmp_path / "calls.json", tmp_path / "bin" / "sbatch"
    program.parent.mkdir()
    program.write_text(SBATCH.format(python=sys.executable, calls=str(file)))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    return lambda: json.loads(file.read_text("utf-8"))


def option(call, name):
    (found,) = [w.split("=", 1)[1] for w in call["words"] if w.startswith(f"--{name}=")]
    return found


def test_each_job_comes_after_those_that_it_needs(pair):
    chosen = stages.chosen(pair, stages.named(pair, []))
    found = {job.name: job for job in submit.jobs(chosen)}
    assert sorted(s for job in found.values() for s in job.stages) == sorted(s.name for s in chosen)
    names = list(found)
    for name, job in found.items():
        assert all(names.index(need) < names.index(name) for need in job.needs)
    assert found[submit.TEXT].stages == ["prepare", "binarize"] and not found[submit.TEXT].needs
    needs = found["kd"].needs | found["cache.teacher"].needs
    assert {submit.TEXT, "teacher", "cache.teacher"} <= needs
    assert found["results.kd"].stages == ["lenpen.kd", "evaluate.kd", "export.kd"]
    assert "results.kd" in found["speed"].needs and "speed" in found["report"].needs


def test_the_chain_is_submitted_with_its_dependencies(tmp_path, calls, capsys):
    runs = tmp_path / "my runs"
    words = ["demo", "ka", "evaluate.ka", "report", "--quick", "--runs", str(runs)]
    words += ["--submit", "--shares", "3", "--sbatch=--partition=all", "--sbatch-gpu=--gpus=1"]
    assert main(words) == 0
    made = {(option(call, "job-name"), "--array=1-3" in call["words"]): call for call in calls()}
    cache, array = (made["demo-quick cache.teacher", shared] for shared in (False, True))
    assert '--shard "$SLURM_ARRAY_TASK_ID/3"' in array["script"]
    assert "--beside" in cache["script"] and "--beside" not in array["script"]
    ka, report = made["demo-quick ka", False], made["demo-quick report", False]
    number = {name: 101 + place for place, name in enumerate(made)}
    after = f"afterok:{number['demo-quick cache.teacher', True]},singleton"
    assert option(cache, "dependency") == after and "singleton" not in option(array, "dependency")
    assert f"afterok:{number['demo-quick cache.teacher', False]}" in option(ka, "dependency")
    assert option(report, "dependency").startswith("afterany:")
    for (name, _), call in made.items():
        assert "--partition=all" in call["words"]
        assert "trap 'scontrol requeue" in call["script"]
        assert ('cat "$failed"' in call["script"]) == (name == "demo-quick report")
        assert ("--gpus=1" in call["words"]) == (name != "demo-quick text of the pair")
        assert f"--runs '{runs}'" in call["script"] and "--quick" in call["script"]
    count = sum(not shared for _, shared in made)
    assert f"submitted {count} jobs; logs: {runs}" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--force", "--seeds=2", "--beside"])
def test_what_does_not_go_with_it_is_one_line(tmp_path, capsys, option):
    assert main(["demo", "--submit", option, "--runs", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "does not go with --submit" in error and error.count("\n") == 1


def test_what_cannot_run_is_not_submitted(tmp_path, calls, capsys):
    assert main(["demo", "evaluate", "--submit", "--runs", str(tmp_path)]) == 1
    assert "error: evaluate needs a trained model" in capsys.readouterr().err
    assert not (tmp_path / "calls.json").exists()


def test_without_slurm_it_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["demo", "--submit", "--runs", str(tmp_path)]) == 1
    assert (
        capsys.readouterr().err
        == "error: --submit needs SLURM's sbatch, which this machine does not have\n"
    )


def test_what_sbatch_refuses_is_one_line(tmp_path, calls, capsys):
    program = tmp_path / "bin" / "sbatch"
    program.write_text("#!/bin/sh\necho 'sbatch: error: invalid\npartition' >&2\nexit 1\n")
    assert main(["demo", "--submit", "--runs", str(tmp_path)]) == 1
    said = "error: sbatch refused the job text of the pair: sbatch: error: invalid partition\n"
    assert capsys.readouterr().err == said


def test_two_processes_do_not_make_the_same_stage(pair):
    with (
        state.stage_locked(pair.files.run_dir, "compare/2/kd"),
        state.stage_locked(pair.files.run_dir, "ka"),
        pytest.raises(PipelineError, match="another process is at work on ka in"),
        state.stage_locked(pair.files.run_dir, "ka"),
    ):
        pass
