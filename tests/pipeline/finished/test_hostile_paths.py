"""Folders that need quoting, that cannot be written, or in which somebody else is at work."""

from __future__ import annotations

import ctypes
import json
import os
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from pipeline.engine import state

from tests.pipeline import project as projects
from tests.pipeline.project import error_of, run

pytestmark = [pytest.mark.slow, pytest.mark.extended]

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def as_anybody() -> None:
    """Give up root's right to write where nobody may; for the new process that is about to run."""
    libc = ctypes.CDLL(None)
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
        if os.geteuid() == 0 and libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
            raise OSError("this root cannot give up its rights")


def module(name: str, *words: object) -> list[object]:
    return [sys.executable, "-m", name, *words]


@pytest.fixture
def made(tmp_path):
    """A project in a folder that needs quoting; nothing has run in it."""
    return projects.make(tmp_path / 'Jörgs "alter" Rechner\'s, (2)')


@pytest.fixture
def closed(tmp_path):
    """A folder that cannot be written."""
    folder = tmp_path / "nur zum Lesen"
    folder.mkdir()
    folder.chmod(0o555)
    yield folder
    folder.chmod(0o755)


def fake_python(folder: Path) -> Path:
    """A python whose venvs are this interpreter's, and whose pip has installed everything."""
    script = folder / "python3.11"
    path = shlex.quote(str(script))
    script.write_text(
        "#!/bin/sh\n"
        'case "$1 $2" in\n'
        f'"-m venv") mkdir -p "$3/bin" && cp {path} "$3/bin/python" ;;\n'
        '"-m pip") ;;\n'
        f'*) exec {shlex.quote(sys.executable)} "$@" ;;\n'
        "esac\n",
        encoding="utf-8",
    )
    script.chmod(0o755)
    return script


def test_the_demo_sets_itself_up(made):
    """All but what comes from the network: see the pipeline's own tests for the rest."""
    python = fake_python(made.home)
    words = [made.checkout / "scripts" / "demo.sh", "--quick", "--runs", made.home / made.runs]
    result = run([*words, "report"], PYTHON=str(python))
    assert error_of(result) == "error: report needs evaluate, which is not done: name evaluate too"
    assert "setup: installing into .venv" in result.stdout
    pipeline = made.checkout / "scripts" / "pipeline.sh"
    again = run([pipeline, "--help"], PYTHON=str(python))
    assert again.returncode == 0
    assert again.stdout.startswith("usage: scripts/pipeline.sh")


def test_a_sweep_runs_there(finished):
    shutil.copytree(finished.configs, finished.checkout / "configs" / "swept")  # a pair by its name
    sweep = finished.copied("runs of the sweep", name="swept")
    options = ["--quick", "--runs", sweep.home / sweep.runs, "--criterions", "ka"]
    sweep.script("swept", *options, "--weights", 0.5, "--top-k", 8, script="sweep.sh")
    results = pd.read_csv(sweep.run_dir / "sweep" / "results.csv")
    assert list(results.criterion) == ["backward_kl"]
    assert (sweep.run_dir / "sweep" / "best.svg").is_file()


def test_a_learner_is_exported_there(finished, tmp_path):
    learner = finished.run_dir / "ka" / "checkpoint_best.pt"
    target = finished.home / 'für "dich" d\'ici.pt'
    result = run(module("ka_fairseq.export", learner, target))
    assert result.returncode == 0, result.stderr
    assert torch.load(target, weights_only=True)["cfg"]["common"]["user_dir"] is None


def test_runs_are_analysed_there(finished):
    folder = finished.run_dir
    out = finished.home / 'Bilder "neu" d\'hier'
    command = module("ka_fairseq.analysis", "entropy", "--out", out / "entropy")
    command += ["--data", folder / "bin", "--start", folder / "learner" / "checkpoint_best.pt"]
    for name in ("control", "ka"):
        command += ["--run", f"{name}={folder / name}"]
    result = run(command)
    assert result.returncode == 0, result.stderr
    assert set(pd.read_csv(out / "entropy.csv").run) == {"control", "ka"}
    assert (out / "entropy.svg").is_file()


def test_fairseq_train_with_a_cache(finished):
    folder = finished.home / 'mit "Cache" d\'ici'
    command = [*finished.fine_tuning(folder / "learner"), "--teacher-cache", str(folder / "cache")]
    command[command.index("--max-update") + 1] = "2"
    result = run(command)
    assert result.returncode == 0, result.stderr
    assert (folder / "learner" / "checkpoint_last.pt").is_file()
    assert json.loads((folder / "cache" / "teacher.json").read_text(encoding="utf-8"))


def test_runs_that_cannot_be_written(made, closed):
    command = made.command("prepare")
    command[command.index("--runs") + 1] = str(closed)
    line = error_of(run(command, as_anybody))
    assert line.startswith(f"error: {closed}") and "Permission denied" in line


def test_a_run_that_cannot_be_written_any_more(made):
    made.pipeline("prepare")
    folder = made.run_dir / "state"
    folder.chmod(0o555)
    line = error_of(run(made.command("binarize"), as_anybody))
    folder.chmod(0o755)
    assert line.startswith("error: stage binarize failed: ") and "Permission denied" in line


def test_other_commands_that_cannot_write(finished, closed):
    learner = finished.run_dir / "ka" / "checkpoint_best.pt"
    text = ("--data", finished.run_dir / "bin", "--run", f"KA={learner.parent}")
    for command in (
        finished.fine_tuning(closed / "learner"),
        finished.fine_tuning(closed),
        [*finished.fine_tuning(finished.home / "unwritten"), "--teacher-cache", closed / "cache"],
        module("ka_fairseq.export", learner, closed / "learner.pt"),
        module("ka_fairseq.analysis", "entropy", "--out", closed / "entropy", *text),
    ):
        line = error_of(run(command, as_anybody))
        assert str(closed) in line and "Permission denied" in line
    assert not list(closed.iterdir())


def test_a_data_folder_that_cannot_be_read_is_one_line(made):
    made.data.chmod(0o000)
    line = error_of(run(made.command("prepare"), as_anybody))
    made.data.chmod(0o755)
    assert str(made.data) in line


@pytest.mark.parametrize("script", ["pipeline.sh", "sweep.sh"])
def test_a_second_run_in_the_same_folder_is_refused(made, script):
    demo = replace(made, name="demo")
    command = {
        "pipeline.sh": demo.command("prepare"),
        "sweep.sh": [
            demo.checkout / "scripts" / "sweep.sh",
            *("demo", "--quick", "--runs", demo.home / demo.runs),
        ],
    }[script]
    with state.locked(demo.run_dir):
        line = error_of(run(command))
    assert line == (
        "error: another pipeline, or a training that it left behind, is at work in "
        f"{demo.run_dir}: wait for its end"
    )
    assert [path.name for path in demo.run_dir.iterdir()] == [".lock"]
