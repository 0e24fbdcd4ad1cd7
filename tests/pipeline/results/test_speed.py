"""What exported models translate and how long they take, with translators of a few lines."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipeline import stages
from pipeline.engine import files, parallel, state
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.models import lenpen, translators
from pipeline.results import measuring, speed

from tests.pipeline import exported

SOURCES = ["", *(f"Satz {number} ist <lang>" for number in range(9)), "", "Satz"]
REFERENCES = [line.replace("Satz", "sentence") for line in SOURCES]


@pytest.fixture
def pair(pair, monkeypatch):
    """A teacher that takes its time, and students of which one knows the word."""
    monkeypatch.setattr(parallel, "cores", lambda: 3)
    files.write_lines(pair.source, SOURCES)
    files.write_lines(pair.reference, REFERENCES)
    exported.add_folder(pair, "teacher", seconds=0.01)
    exported.add_folder(pair, "kd", word="set")
    exported.add_folder(pair, "ka")
    exported.add_state(pair, "topk", refused="CTranslate2 has no adaptive softmax")
    return pair


@pytest.fixture
def measured(pair):
    """The pair after the stage."""
    speed.stage(pair, after=()).execute(pair.files)
    return pair


def test_models_are_scored_and_timed(measured):
    found = speed.facts(measured)
    places = [(model, beam) for model in ("teacher", "kd", "ka") for beam in (6, 1)]
    assert [(point["model"], point["beam"]) for point in found["points"]] == places
    assert found["settings"] == {speed.ALL: {"threads": 3}, speed.ONE: {"threads": 1}}
    assert found["sentences"] == 10 and found["repeats"] == speed.REPEATS
    teacher, greedy, kd, _, ka, _ = found["points"]
    scores = [point["scores"]["test"] for point in (teacher, greedy, kd, ka)]
    assert scores[0]["bleu"] == scores[3]["bleu"] == pytest.approx(100)
    assert scores[1]["bleu"] < 100 and scores[2]["bleu"] < 100
    assert scores[1]["length_ratio"] > scores[0]["length_ratio"] == 1
    assert teacher["lenpen"] == lenpen.USUAL
    for setting in (speed.ALL, speed.ONE):
        # The teacher sleeps 10 ms a sentence, so these hold on any machine.
        assert teacher[setting]["sentences_per_second"] <= 100
        assert greedy[setting]["sentences_per_second"] <= 200
        words = sum(len(line.split()) for line in SOURCES)
        ratio = teacher[setting]["words_per_second"] / teacher[setting]["sentences_per_second"]
        assert ratio == pytest.approx(words / 10)
    assert 10 <= teacher[speed.ONE]["p50_ms"] <= teacher[speed.ONE]["p95_ms"]
    assert "p50_ms" not in teacher[speed.ALL]  # a single sentence has one thread
    lines = files.read_lines(measured.files.evaluate_dir / "export.kd.en")
    assert lines == [line.replace("Satz", "set") for line in SOURCES]
    lines = files.read_lines(measured.files.evaluate_dir / "export.kd.beam1.en")
    assert lines == [line.replace("Satz", "set") + " !" for line in SOURCES]


def test_all_are_scored_and_those_that_are_named_are_timed(pair):
    speed.stage(pair, after=(), timed=lambda: ["kd"]).execute(pair.files)
    points = speed.facts(pair)["points"]
    assert len(points) == 6 and all(point["scores"]["test"]["bleu"] > 0 for point in points)
    assert {point["model"] for point in points if speed.ONE in point or speed.ALL in point} == {
        "kd"
    }


def test_a_second_run_measures_nothing_until_a_folder_is_another(measured, capsys):
    def models():
        return {point["model"] for point in speed.facts(measured)["points"]}

    stage = speed.stage(measured, after=())
    stage.execute(measured.files)
    assert "speed: done already" in capsys.readouterr().out
    exported.add_state(measured, "kd", quantization="int8", megabytes=1.26)
    stage.execute(measured.files)
    assert "speed: done already" in capsys.readouterr().out
    record = state.Record({"model": "another"}, done=True, facts={"megabytes": 2})
    state.write(measured.files.run_dir, "export.kd", record)
    assert models() == {"teacher", "ka"}  # kd's are of another model
    stage.execute(measured.files)
    assert models() == {"teacher", "kd", "ka"}


def test_a_gpu_without_its_libraries_is_said_and_no_failure(pair, capsys, monkeypatch):
    monkeypatch.setattr(Slot, "visible", 1)
    speed.stage(pair, after=()).execute(pair.files)
    assert "speed: not measured on gpu: no GPU here" in capsys.readouterr().out
    assert speed.facts(pair)["points"][0][speed.GPU] == {"error": "no GPU here"}


def test_a_translator_that_fails_is_one_line(pair):
    files.write_text(translators.folder(pair, "ka") / "translate.py", "import no_such_package\n")
    with pytest.raises(PipelineError, match=r"stage speed failed: .*no_such_package") as error:
        speed.stage(pair, after=()).execute(pair.files)
    assert "\n" not in str(error.value)


def test_the_line_to_type_is_of_the_best_student(pair, monkeypatch):
    monkeypatch.chdir(pair.files.run_dir)
    exported.add_speed(pair, teacher=90.0, kd=30.0, ka=40.0)
    python = shlex.quote(sys.executable)
    expected = f"echo 'Satz 0 ist <lang>' | {python} export/ka/translate.py"
    assert speed.command_line(pair) == expected
    record = state.read(pair.files.run_dir, speed.NAME)
    inputs = {**record.inputs, "beam": 1}  # and not the folder's own
    state.write(pair.files.run_dir, speed.NAME, state.Record(inputs, done=True, facts=record.facts))
    assert speed.command_line(pair) == f"{expected} --beam 1"
    exported.add_speed(pair, teacher=90.0, kd=30.0, ka=40.0)
    monkeypatch.chdir(Path(sys.executable).parent)
    program = shlex.quote(str(translators.folder(pair, "ka") / "translate.py"))
    line = speed.command_line(pair)
    assert line.endswith(f"{Path(sys.executable).name} {program}")
    printing = "import sys; print(sys.argv[0], sys.stdin.read())"
    files.write_text(translators.folder(pair, "ka") / "translate.py", printing)
    monkeypatch.chdir(pair.files.run_dir)
    said = subprocess.run(
        ["bash", "-c", speed.command_line(pair)], capture_output=True, text=True, check=True
    )
    assert said.stdout == "export/ka/translate.py Satz 0 ist <lang>\n\n"


def test_without_a_student_there_is_no_line(pair):
    assert speed.command_line(pair) is None
    exported.add_speed(pair, teacher=90.0)
    assert speed.command_line(pair) is None


def test_it_comes_after_all_others_and_alone(pair):
    table = stages.table(pair)
    stage = table["speed"]
    assert stage.alone and "speed" in table["report"].after
    assert {f"{kind}.{m.name}" for kind in ("evaluate", "export") for m in pair.models} <= {
        *stage.after
    }
    assert stages.named(pair, ["speed"]) == {"speed"}
    for model in pair.titles:
        state.forget(pair.files.run_dir, translators.name(model))
    with pytest.raises(PipelineError, match="speed needs export, which is not done"):
        stages.named(pair, ["speed"])


@given(st.lists(st.text("ab ", max_size=3), max_size=60), st.integers(1, 60))
def test_the_timed_sentences_are_spread_and_none_is_empty(lines, count):
    found = measuring.spread(lines, count)
    kept = [line for line in lines if line.strip()]
    assert len(found) == min(count, len(kept))
    places = [n * len(kept) // len(found) for n in range(len(found))]
    assert found == [kept[place] for place in places] and len(set(places)) == len(places)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.integers(1, 100))
def test_a_percentile_is_the_smallest_that_reaches(values, percent):
    found = measuring.percentile(sorted(values), percent)
    assert 100 * sum(value <= found for value in values) >= percent * len(values)
    assert 100 * sum(value < found for value in values) < percent * len(values)
