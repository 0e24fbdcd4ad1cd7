"""Presets for students, and what a model that names one is trained with."""

from __future__ import annotations

from pathlib import Path

import pytest
from pipeline import stages
from pipeline.engine import files
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import model_list, settings, students

from tests.pipeline import own_configs
from tests.support import ROOT

COMMON = {
    "teacher": None,
    "learner": None,
    "kd": {"start": "learner", "teacher": "teacher"},
}
PRESETS = sorted(path.stem for path in students.COMMON.glob("*.yaml"))
SHAPES = [name for name in PRESETS if students.layers(name, Path()) is None]


def merged(own, folder=Path()):
    return {model.name: model for model in model_list.merged(COMMON, own, folder / "pair.yaml")}


def test_what_starts_from_a_student_has_its_size():
    own = {
        "small": {"student": "tiny", "config": "learner", "settings": {"model.decoder_layers": 1}},
        "small_kd": {"start": "small", "teacher": "teacher", "config": "kd"},
    }
    own["seq_kd"] = {"config": "small"}
    found = merged(own)
    preset = students.settings("tiny", Path())
    assert found["small_kd"].settings == preset and found["small_kd"].student == "tiny"
    assert found["seq_kd"].settings == preset  # it is compared with small
    assert found["small"].settings == {**preset, "model.decoder_layers": 1}
    assert not found["kd"].settings and found["kd"].student is None


def test_a_preset_of_ones_own_is_beside_pair_yaml(tmp_path):
    files.write_text(tmp_path / "students" / "wide.yaml", "encoder_embed_dim: 1024\n")
    found = merged({"learner": {"student": "wide"}}, tmp_path)
    assert found["kd"].settings == {"model.encoder_embed_dim": 1024}


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ({"learner": {"student": "tinny"}}, r"models\.learner: student tinny: choose from .*tiny"),
        ({"kd": {"student": "tiny"}}, r"models\.kd\.student: the size is that of learner"),
        ({"learner": {"student": "broken"}}, r"broken\.yaml should hold fairseq's settings"),
        ({"learner": {"student": "layers_1_1"}}, r"layers_1_1: it has layers and no shape; choose"),
    ],
)
def test_a_mistake_is_one_line(own, says, tmp_path):
    if "broken" in says:
        files.write_text(tmp_path / "students" / "broken.yaml", "- 1\n")
    with pytest.raises(PipelineError, match=says) as error:
        merged(own, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("pair", settings.names())
def test_any_pair_can_name_any_preset_of_a_shape(pair, name, tmp_path, monkeypatch):
    folder = files_of(pair, tmp_path, {"learner": {"student": name}})
    found = settings.load(folder, tmp_path / "runs")
    preset = students.settings(name, folder)
    assert preset["model.encoder_layers"] > preset["model.decoder_layers"]
    trainings = {training.name: training for training in stages.trainings(found)}
    unchanged = settings.load(ROOT / "configs" / pair, tmp_path / "runs")
    own = {model.name: model.settings for model in unchanged.models}
    for training in trainings.values():
        first = training
        while first.start:
            first = trainings[first.start]
        is_student = first.config == "learner"
        # A rate is for what is trained from nothing.
        preset = students.settings(name, folder, start=bool(training.start))
        of_preset = {k: v for k, v in preset.items() if k not in own[training.name]}
        resolved = training.resolved(found)
        assert all(resolved.get(k) == v for k, v in of_preset.items()) == is_student
        if len(of_preset) < len(preset):  # what an entry says of itself wins
            continue
        words = training.arguments(found, WHOLE)
        given = [word.lstrip("+") for word in words]
        assert (f"model.encoder_layers={preset['model.encoder_layers']}" in given) == is_student


def files_of(pair, home, own):
    """Copy a pair's configs, with changes to its list of models."""
    configs = own_configs.copied(pair, home / pair)
    with own_configs.changing(configs) as content:
        content["models"] = {**content.get("models", {}), **own}
        content.pop("teacher", None)
    return configs
