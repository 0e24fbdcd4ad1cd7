"""The whole pipeline through its real command lines, on a slice of real text."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from pipeline.engine import state

from tests.databins import read_split
from tests.pipeline.nearer import assert_comes_nearer
from tests.pipeline.project import BEAMS, MODELS, environment, error_of, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(finished):
    """The run folder after every stage."""
    return finished.run_dir


def test_the_table_has_every_model(folder):
    content = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in content["models"]] == MODELS
    (test,) = content["tests"]
    for row, model in zip(test["rows"], content["models"], strict=True):
        assert 0 <= row["bleu"]["mean"] <= 100
        assert row["differences"].keys() == {"control"} - {row["model"]}
        assert model["parameters"] > 0
        assert model["export"]["quantization"] == "int8" and model["export"]["megabytes"] > 0
        assert 0.6 <= model["lenpen"][0] <= 1.8
    points = content["operating_points"]["test"]["rows"]
    assert [(p["model"], p["beam"]) for p in points] == [(m, b) for m in MODELS for b in BEAMS]
    assert all(point["one_thread.sentences_per_second"] > 0 for point in points)
    assert any(point["dominated_by"] is None for point in points)
    # fairseq rounds an epoch's seconds, and the learners' epochs take less than one here.
    assert content["models"][0]["train_minutes"][0] > 0
    for figure in ("validation_bleu", "quality_over_speed"):
        assert (folder / f"{figure}.png").stat().st_size > 10_000


def test_the_page_shows_what_the_learners_do(folder):
    text = (folder / "report.html").read_text(encoding="utf-8")
    headings = ("Results on the test set", "Entropy of the next token", "Agreement, calibration")
    for heading in headings:
        assert heading in text
    assert text.count('src="data:image/svg+xml;base64,') == 5
    assert text.count('href="data:text/csv;base64,') == 5
    assert "https://" not in text


def test_no_temporary_files_are_left(finished):
    left = [path.name for path in (finished.home.parent / "tmp").iterdir()]
    # PyTorch makes a folder for its compiler, which nothing uses here.
    assert [name for name in left if not name.startswith("torchinductor_")] == []


def test_every_translation_has_its_line(folder):
    references = (folder / "text" / "test.en").read_text(encoding="utf-8").count("\n")
    exported = [f"export.{model}{beam}" for model in MODELS for beam in ("", ".beam1")]
    for model in (*MODELS, *exported):
        text = (folder / "evaluate" / f"{model}.en").read_text(encoding="utf-8")
        assert text.count("\n") == references


@pytest.fixture(scope="module")
def second(finished):
    """What a second run prints, and the times of the files before and after it."""
    again = finished.copied("runs made twice")

    def written():
        paths = [path for path in again.run_dir.rglob("*") if path.is_file()]
        kept = [path for path in paths if path.parent != again.run_dir]  # the report is made anew
        return {path: path.stat().st_mtime_ns for path in kept}

    before = written()
    return again.pipeline(), before, written()


def test_a_second_run_does_nothing_again(second):
    output, before, after = second
    # prepare and binarize, models, cache, translations and text, length penalties, scores, folders,
    # speed, analysis.
    assert output.count(": done already") == 2 + 5 + 1 + 2 + 5 + 5 + 5 + 1 + 1
    assert after == before


def test_the_last_line_translates_a_sentence_as_it_is_printed(second):
    line = second[0].splitlines()[-1]
    result = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environment(), check=False
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("\n") == 1


def test_the_learner_comes_nearer_to_the_teacher(folder):
    assert_comes_nearer(folder / "logs" / "ka.log")


def test_a_learner_is_trained_on_the_translations(finished, folder):
    best = folder / "texts" / "best"
    counts = [len(read_split(best, "train", language)) for language in ("de", "en")]
    facts = state.read(folder, "text.best").facts
    assert counts == [facts["pairs"]] * 2 and 0 < counts[0] < 600  # garbage is left out
    log = finished.log("seq_kd").read_text(encoding="utf-8")
    assert f"{best} train de-en {counts[0]} examples" in log
    dictionaries = [folder / part / "dict.en.txt" for part in ("bin", "texts/best")]
    assert dictionaries[0].read_bytes() == dictionaries[1].read_bytes()
    for name in ("valid.de-en.en.bin", "valid.de-en.en.idx"):
        assert (best / name).read_bytes() == (folder / "bin" / name).read_bytes()


@pytest.mark.parametrize("model", ["ka", pytest.param("teacher", marks=pytest.mark.extended)])
def test_models_load_in_plain_fairseq_generate(folder, model):
    program = Path(sys.executable).with_name("fairseq-generate")
    command = [program, folder / "bin", "--path", folder / model / "model.pt"]
    command += ["-s", "de", "-t", "en", "--beam", "1", "--max-len-b", "20"]
    command += ["--required-batch-size-multiple", "1"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\nD-") + result.stdout.startswith("D-") == 40


@pytest.mark.extended
def test_a_student_by_its_preset_is_trained_and_exported(finished, tmp_path):
    small = finished.copied("runs of a student").configured(
        tmp_path,
        {"small": {"config": "learner", "student": "tiny"}},
        training={"optimization.max_update": 2},
    )
    small.pipeline("small", "export.small")
    parameters = torch.load(small.run_dir / "small" / "model.pt", weights_only=True)["model"]
    layers = {name.split(".")[2] for name in parameters if name.startswith("encoder.layers")}
    assert len(layers) == 6
    assert (small.run_dir / "export" / "small" / "model.bin").stat().st_size > 5_000_000


@pytest.mark.extended
def test_a_failing_stage_says_which_and_why_and_where(finished, tmp_path):
    other = finished.copied("runs that fail").configured(tmp_path, {})
    config = other.configs / "learner.yaml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace("_name: translation", "_name: translatoin"), encoding="utf-8")
    error = error_of(run(other.command("learner", "--force")))
    assert error.startswith("error: stage learner failed: ")
    assert "translatoin" in error
    assert error.endswith(f"(log: {other.log('learner')})")
