"""The whole pipeline through its real command lines, on a slice of real text."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from pipeline import training_log

from tests.pipeline.comparing import MODELS
from tests.pipeline.project import environment

pytestmark = pytest.mark.slow
older = pytest.mark.older


@pytest.fixture(scope="module")
def run(finished):
    """The run folder after every stage."""
    return finished.run_dir


@older
def test_the_table_has_every_model(run):
    content = json.loads((run / "report.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in content["models"]] == MODELS
    for row in content["models"]:
        assert 0 <= row["bleu"] <= 100
        assert row["parameters"] > 0
        assert row["differences"].keys() == {"control", "kd"} - {row["model"]}
        assert row["export"]["quantization"] == "int8" and row["export"]["megabytes"] > 0
        assert 0.6 <= row["lenpen"] <= 1.8
    points = content["operating_points"]
    assert [(p["model"], p["beam"]) for p in points] == [(m, b) for m in MODELS for b in (6, 1)]
    assert all(point["one_thread.sentences_per_second"] > 0 for point in points)
    assert any(point["dominated_by"] is None for point in points)
    # fairseq rounds an epoch's seconds, and the learners' epochs take less than one here.
    assert content["models"][0]["train_minutes"] > 0
    for figure in ("validation_bleu", "quality_over_speed"):
        assert (run / f"{figure}.png").stat().st_size > 10_000


@older
def test_the_page_shows_what_the_learners_do(run):
    text = (run / "report.html").read_text(encoding="utf-8")
    for heading in ("Results on the test set", "How sure they are", "Best tokens at one position"):
        assert heading in text
    assert text.count('src="data:image/svg+xml;base64,') == 5
    assert text.count('href="data:text/csv;base64,') == 5
    assert "https://" not in text


@older
def test_no_temporary_files_are_left(finished, temporary):
    assert not list(temporary.iterdir())


@older
def test_every_translation_has_its_line(run):
    references = (run / "text" / "test.en").read_text(encoding="utf-8").count("\n")
    exported = [f"export.{model}{beam}" for model in MODELS for beam in ("", ".beam1")]
    for model in (*MODELS, *exported):
        text = (run / "evaluate" / f"{model}.en").read_text(encoding="utf-8")
        assert text.count("\n") == references


@pytest.fixture(scope="module")
def second(run, finished):
    """What a second run prints, and the times of the files before and after it."""

    def written():
        paths = [path for path in run.rglob("*") if path.is_file()]
        kept = [path for path in paths if path.parent != run]  # the report is made anew
        return {path: path.stat().st_mtime_ns for path in kept}

    before = written()
    return finished.pipeline(), before, written()


@older
def test_the_last_line_translates_a_sentence_as_it_is_printed(second):
    line = second[0].splitlines()[-1]
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment(), check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1


def test_a_student_by_its_preset_is_trained_and_exported(finished):
    small = replace(finished, name="klein")
    shutil.copytree(finished.run_dir, small.run_dir)
    configs = shutil.copytree(finished.configs, finished.home / "configs with a preset")
    pair = configs / "pair.yaml"
    content = yaml.safe_load(pair.read_text(encoding="utf-8"))
    content["models"]["small"] = {"config": "learner", "student": "tiny"}
    content["quick"]["training"]["optimization.max_update"] = 2
    pair.write_text(yaml.safe_dump(content, allow_unicode=True, sort_keys=False), encoding="utf-8")
    words = small.command("small", "export.small")
    words[words.index(str(finished.configs))] = str(configs)
    result = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert result.returncode == 0, result.stderr
    parameters = torch.load(small.run_dir / "small" / "model.pt", weights_only=True)["model"]
    layers = {name.split(".")[2] for name in parameters if name.startswith("encoder.layers")}
    assert len(layers) == 6
    assert (small.run_dir / "export" / "small" / "model.bin").stat().st_size > 5_000_000


@older
@pytest.mark.parametrize("model", ["kd", "ka", "mixture", "topk"])
def test_the_learner_comes_nearer_to_the_teacher(run, model):
    records = training_log.read(run / "logs" / f"{model}.log")
    distances = [float(r["transfer_loss"]) for r in records if "transfer_loss" in r]
    assert len(distances) >= 8  # the mean of every five updates
    assert distances[-1] < 0.7 * distances[0]
    validated = training_log.by_epoch(records, "valid_transfer_loss")
    assert max(validated.values()) < distances[0]


@pytest.mark.parametrize("model", ["teacher", pytest.param("ka", marks=older)])
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


@older
def test_a_second_run_does_nothing_again(second):
    output, before, after = second
    # Those before, models, cache, length penalties, scores, folders, speed, analysis.
    assert output.count(": done already") == 2 + 7 + 1 + 7 + 7 + 7 + 1 + 1
    assert after == before


def test_a_failing_stage_says_which_and_why_and_where(finished):
    other = replace(finished, name="andere")
    shutil.copytree(finished.run_dir, other.run_dir)
    configs = finished.home / "other configs"
    shutil.copytree(finished.configs, configs)
    config = configs / "learner.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("_name: translation", "_name: translatoin"), encoding="utf-8")
    words = other.command("learner", "--force")
    words[words.index(str(finished.configs))] = str(configs)
    result = subprocess.run(words, capture_output=True, text=True, env=environment(), check=False)
    assert result.returncode == 1
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("error: stage learner failed: ")
    assert "translatoin" in error
    assert error.endswith(f"(log: {other.log('learner')})")
    assert "Traceback" not in result.stderr
