"""The length penalty is the one with which a model's validation translations are the best."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest
from pipeline import stages
from pipeline.engine import files, state
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import exporting, lenpen, n_best_job, settings
from pipeline.results import evaluate

SHORT, LONG = "▁the ▁dialog ▁is ▁shown", "▁the ▁dialog ▁is ▁shown ▁in ▁a ▁window ▁of ▁its ▁own"


def hypothesis(text, log_probability):
    return {"log_probability": log_probability, "subwords": text.split()}


def turning(value):
    """Two hypotheses that are equally good at a length penalty: the long one is for larger ones."""
    ratio = (len(LONG.split()) + 1) / (len(SHORT.split()) + 1)
    return [hypothesis(SHORT, -1.0), hypothesis(LONG, -(ratio**value))]


@pytest.fixture
def pair(pair, monkeypatch):
    """A trained model whose hypotheses turn from short to long between 1.2 and 1.4; no test set."""
    files.write_text(pair.files.model("ka"), "weights")
    for name in ("binarize", "ka"):
        state.write(pair.files.run_dir, name, state.Record({}, done=True))
    files.write_lines(pair.files.bin_dir / "segmented" / "valid.de", ["▁Satz"] * 4)

    def convert(checkpoint, target, dictionaries, quantization):
        assert checkpoint == pair.files.model("ka") and quantization == "int8"

    def run(command, log, **options):
        job = n_best_job.Job(**files.read_json(lenpen.Path(command[-1])))
        assert job.source == str(pair.files.bin_dir / "segmented" / "valid.de") and job.beam == 6
        files.write_lines(lenpen.Path(job.target), [json.dumps(turning(1.3))] * 4)

    monkeypatch.setattr(exporting, "convert", convert)
    monkeypatch.setattr(lenpen.commands, "run", run)
    return pair


def choose(pair, reference):
    text = reference.replace("▁", "")
    files.write_lines(pair.files.text_dir / "valid.en", [text] * 4)
    (stage,) = lenpen.stages(pair, ["ka"])
    stage.execute(pair.files)
    return lenpen.of(pair, "ka")


def test_the_best_on_validation_is_chosen_and_of_equal_ones_the_nearest_to_one(pair):
    assert choose(pair, SHORT) == 1.0
    found = lenpen.facts(pair, "ka")["tried"]
    assert list(found) == ["0.6", "0.8", "1", "1.2", "1.4", "1.6", "1.8"]
    assert found["1.2"] == pytest.approx(100) and found["1.4"] < 50
    state.forget(pair.files.run_dir, "lenpen.ka")
    assert choose(pair, LONG) == 1.4
    assert not (pair.files.model_dir("ka") / "lenpen").exists()


def test_test_scores_are_never_read(pair, monkeypatch):
    """Test sets that want the other length penalty, and a reader that tells of each file."""
    files.write_lines(pair.source, ["Satz"] * 4)
    files.write_lines(pair.reference, [SHORT.replace("▁", "")] * 4)
    evaluated = state.Record({}, done=True, facts={"bleu": 99.0, "lenpen": 0.6})
    state.write(pair.files.run_dir, "evaluate.ka", evaluated)
    opened, read = [], files.Path.read_text

    def read_text(path, *args, **options):
        opened.append(path)
        return read(path, *args, **options)

    monkeypatch.setattr(files.Path, "read_text", read_text)
    assert choose(pair, LONG) == 1.4
    assert pair.files.text_dir / "valid.en" in opened
    names = [path.relative_to(pair.files.run_dir).as_posix() for path in opened]
    assert not [name for name in names if "test" in name or "evaluate" in name]


def test_what_is_scored_has_the_choice_and_a_number_needs_none(pair):
    chosen = evaluate.stage(pair, "ka")
    assert "lenpen.ka" in chosen.needs and "lenpen.ka" in stages.table(pair)["export.ka"].needs
    choose(pair, LONG)
    assert chosen.inputs(WHOLE)["lenpen"] == 1.4
    fixed = replace(pair, decoding=replace(pair.decoding, lenpen=0.7))
    assert lenpen.stages(fixed, fixed.titles) == [] and lenpen.of(fixed, "ka") == 0.7
    assert "lenpen.ka" not in stages.table(fixed)


def test_a_model_that_is_made_anew_is_chosen_for_anew(pair):
    choose(pair, LONG)
    for name in ("binarize", "teacher", "cache.teacher"):
        state.write(pair.files.run_dir, name, state.Record({}, done=True))
    targets = stages.named(pair, ["ka", "evaluate.ka"])
    names = [stage.name for stage in stages.chosen(pair, targets)]
    assert names == ["ka", "lenpen.ka", "evaluate.ka"]
    assert targets == {"ka", "evaluate.ka"}


def test_a_model_that_cannot_be_tried_has_the_usual_one(pair, monkeypatch, capsys):
    def convert(*_):
        raise exporting.NotExported("CTranslate2 has no adaptive softmax")

    monkeypatch.setattr(exporting, "convert", convert)
    assert choose(pair, LONG) == 1.0
    said = "lenpen.ka: 1, as CTranslate2 cannot try others: CTranslate2 has no adaptive softmax\n"
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("value", lenpen.TRIED)
def test_hypotheses_are_ranked_by_their_length_with_the_end(value):
    (found,) = lenpen.best([turning(1.3)], value)
    assert found == (SHORT if value < 1.3 else LONG).split()
    scores = [-1.0 / 5**value, -((11 / 5) ** 1.3) / 11**value]
    assert math.isclose(*scores) or (scores[1] > scores[0]) == (value > 1.3)


def test_the_papers_pairs_have_the_papers_number(tmp_path):
    found = {name: settings.load(settings.CONFIGS / name, tmp_path) for name in settings.names()}
    fixed = {name for name, pair in found.items() if pair.decoding.lenpen == 1.0}
    assert fixed == {"iwslt15_th_en", "wmt17_de_en"}
    assert all(pair.decoding.beams == (6, 1) for pair in found.values())


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({"beams": []}, r"decoding.beams: \[\] is no choice: give different whole numbers"),
        ({"beams": [6, 6]}, r"decoding.beams: \[6, 6\] is no choice"),
        ({"beams": [6, 0]}, r"decoding.beams: \[6, 0\] is no choice"),
        ({"beam": "six"}, "decoding.beam: six is no choice: give a whole number from 1 up, as 6"),
        ({"beam": 6, "beams": [6]}, "decoding has beam and beams: give beams alone"),
        ({"lenpen": "best"}, "decoding.lenpen: best is no number: give one, as 1.0, or auto"),
        ({"lenpen": float("nan")}, "decoding.lenpen: nan is no number"),
        ({"beems": [6]}, "decoding has no beems: choose from beams, beam, lenpen, remove_bpe,"),
        ([6], "decoding: give beams, beam, lenpen"),
    ],
)
def test_a_wrong_setting_is_said_before_anything_runs(section, says, tmp_path):
    with pytest.raises(PipelineError, match=says) as error:
        settings.Decoding.load(section, tmp_path / "pair.yaml")
    assert "\n" not in str(error.value)


def test_one_beam_may_stand_for_the_list():
    found = settings.Decoding.load({"beam": 4, "lenpen": 1.2}, None)
    assert (found.beams, found.beam, found.lenpen) == ((4,), 4, 1.2)
    assert settings.Decoding.load({}, None).beams == (6, 1)
