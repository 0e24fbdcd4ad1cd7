"""The whole pipeline through its real command lines, on a slice of real text."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from pipeline import training_log

from tests.pipeline.conftest import ROOT

pytestmark = pytest.mark.slow

TEXT = ROOT / "tests" / "data" / "libreoffice-help"
MODELS = ["teacher", "learner", "control", "kd", "ka", "mixture", "topk"]


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A user's own corpus and configs, in folders that need quoting."""
    home = tmp_path_factory.mktemp("Jörgs Rechner, (2)")
    shutil.copytree(ROOT / "configs" / "demo", home / "configs")
    settings = yaml.safe_load((home / "configs" / "pair.yaml").read_text(encoding="utf-8"))
    settings["quick"] = {
        "segmentation": {"vocab_size": 400},
        "training": {
            "optimization.max_update": 40,
            "optimization.max_epoch": 9,
            "common.log_interval": 5,
            "dataset.max_tokens": 600,
        },
    }
    text = yaml.safe_dump(settings, allow_unicode=True)
    (home / "configs" / "pair.yaml").write_text(text, encoding="utf-8")
    shutil.copytree(TEXT, home / "mein Körper")
    return home


def command(home, *words):
    own = ("--data", home / "mein Körper", "--src", "de", "--tgt", "en", "--name", "größe 1")
    paths = ("--config", home / "configs", "--runs", home / "runs")
    script = ROOT / "scripts" / "pipeline.sh"
    return [str(word) for word in (script, *own, *paths, "--quick", *words)]


def environment():
    """The same interpreter for the scripts as for the tests."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path}


def pipeline(home, *words):
    result = subprocess.run(
        command(home, *words), capture_output=True, text=True, env=environment(), check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def run(project):
    """The run folder after every stage, with a kill in the middle of one."""
    folder = project / "runs" / "größe 1-quick"
    pipeline(project, "prepare", "binarize", "teacher", "learner")
    kill_in_the_middle(project, folder, "kd")
    output = pipeline(project)
    assert "kd: going on from its last checkpoint" in output
    assert "teacher: done already" in output
    assert "# größe 1-quick: de → en" in output
    return folder


def kill_in_the_middle(home, folder, stage):
    process = subprocess.Popen(
        command(home, stage),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(),
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / stage / "checkpoint_last.pt").exists():
        assert process.poll() is None, (folder / "logs" / f"{stage}.log").read_text()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    record = json.loads((folder / "state" / f"{stage}.json").read_text(encoding="utf-8"))
    assert not record["done"]


def test_the_table_has_every_model(run):
    content = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in content["models"]] == MODELS
    for row in content["models"]:
        assert 0 <= row["bleu"] <= 100
        assert row["parameters"] > 0
        assert row["train_minutes"] > 0
        assert (row["p_value"] is None) == (row["model"] == "kd")
    assert (run / "validation_bleu.png").stat().st_size > 10_000


def test_the_page_shows_what_the_learners_do(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    for heading in ("Results on the test set", "How sure they are", "Best tokens at one position"):
        assert heading in text
    assert text.count('src="data:image/svg+xml;base64,') == 4
    assert "https://" not in text


def test_every_translation_has_its_line(run):
    references = (run / "text" / "test.en").read_text(encoding="utf-8").count("\n")
    for model in MODELS:
        text = (run / "evaluate" / f"{model}.en").read_text(encoding="utf-8")
        assert text.count("\n") == references


@pytest.mark.parametrize("model", ["kd", "ka", "mixture", "topk"])
def test_the_learner_comes_nearer_to_the_teacher(run, model):
    records = training_log.read(run / "logs" / f"{model}.log")
    distances = [float(r["transfer_loss"]) for r in records if "transfer_loss" in r]
    assert len(distances) >= 8  # the mean of every five updates
    assert distances[-1] < 0.7 * distances[0]
    validated = training_log.by_epoch(records, "valid_transfer_loss")
    assert max(validated.values()) < distances[0]


def test_a_killed_training_makes_all_its_updates(run):
    records = training_log.read(run / "logs" / "kd.log")
    updates = [int(r["valid_num_updates"]) for r in records if "valid_num_updates" in r]
    assert updates[-1] == 40


@pytest.mark.parametrize("model", ["teacher", "ka"])
def test_models_load_in_plain_fairseq_generate(run, model):
    program = Path(sys.executable).with_name("fairseq-generate")
    command = [program, run / "bin", "--path", run / model / "model.pt", "-s", "de", "-t", "en"]
    command += ["--beam", "1", "--max-len-b", "20", "--required-batch-size-multiple", "1"]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=run,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\nD-") + result.stdout.startswith("D-") == 80


def test_a_second_run_does_nothing_again(run, project):
    def written():
        paths = [path for path in run.rglob("*") if path.is_file()]
        kept = [path for path in paths if path.parent != run]  # the report is made anew
        return {path: path.stat().st_mtime_ns for path in kept}

    before = written()
    output = pipeline(project)
    assert output.count(": done already") == 9
    assert written() == before


def test_a_failing_stage_says_which_and_why_and_where(run, project):
    shutil.copytree(project / "configs", project / "other configs", dirs_exist_ok=True)
    config = project / "other configs" / "learner.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("_name: translation", "_name: translatoin"), encoding="utf-8")
    words = command(project, "learner", "--force")
    words[words.index(str(project / "configs"))] = str(project / "other configs")
    words[words.index("größe 1")] = "andere"
    shutil.copytree(run, project / "runs" / "andere-quick")
    result = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert result.returncode == 1
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("error: stage learner failed: ")
    assert "translatoin" in error
    assert error.endswith(f"(log: {project / 'runs' / 'andere-quick' / 'logs' / 'learner.log'})")
    assert "Traceback" not in result.stderr
