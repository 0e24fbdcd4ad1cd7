"""What fairseq-hydra-train is called with for a model of the list."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import model_list
from pipeline.models.model_list import Model
from pipeline.models.training import Training

from tests.pipeline import own_configs

START = "checkpoint.finetune_from_model"


@pytest.fixture
def learners(pair):
    """A pair whose students go on from a learner, or from nothing, as those of all but the demo."""
    return own_configs.from_a_learner(pair)


def training(pair, name: str, **changes: object) -> Training:
    """A model of the pair's list as a training, with other fields."""
    model: Model = next(model for model in pair.models if model.name == name)
    return Training.of(replace(model, **changes))


def test_without_a_start_nothing_is_loaded(pair):
    """The config of `kd` names the learner's checkpoint, and only a start may."""
    assert training(pair, "kd").resolved(pair)[START]
    assert f"{START}=null" in training(pair, "kd", start=None).arguments(pair, WHOLE)


def test_with_a_start_its_best_checkpoint_is_loaded(learners):
    best = learners.files.best_checkpoint("learner")
    assert f"{START}='{best}'" in training(learners, "kd").arguments(learners, WHOLE)


def test_the_start_is_an_input(learners):
    """Else a result from nothing would pass for one that went on from the learner."""
    assert training(learners, "kd").inputs(learners, WHOLE)[START] == "learner"
    assert training(learners, "kd", start=None).inputs(learners, WHOLE)[START] is None


@pytest.mark.parametrize("name", ["kd_scratch", "ka_scratch", "seq_inter_kd"])
def test_from_nothing_beside_the_teacher(learners, name):
    """Word-level methods from nothing have the learner's schedule, and a teacher."""
    pair = learners
    found, learner = (training(pair, n).resolved(pair) for n in (name, "learner"))
    assert found["task._name"] == "translation_with_teacher"
    assert {k: v for k, v in found.items() if k.startswith("optimization.")} == {
        k: v for k, v in learner.items() if k.startswith("optimization.")
    }
    words = training(pair, name).arguments(pair, WHOLE)
    assert f"++task.teacher_path='{pair.files.best_checkpoint('teacher')}'" in words
    assert f"{START}=null" in [word.lstrip("+") for word in words]
    # The cache is where the pipeline fills it, whatever the entry that switches it on says.
    [cache] = [word for word in words if "task.teacher_cache=" in word]
    assert cache.startswith(f"++task.teacher_cache='{pair.files.model_dir('teacher')}")


def test_layers_of_the_start(pair):
    """The teacher's widths, its first layers, and nothing of its dropout."""
    teacher = training(pair, "teacher").resolved(pair)
    kept = {"start": "teacher", "layers": {"encoder": 2, "decoder": 1}}
    found = training(pair, "kd", **kept)
    shape = found.resolved(pair)
    assert (shape["model.encoder_layers"], shape["model.encoder_layers_to_keep"]) == (2, "0,1")
    assert (shape["model.decoder_layers"], shape["model.decoder_layers_to_keep"]) == (1, "0")
    for key in ("encoder_embed_dim", "decoder_ffn_embed_dim", "encoder_attention_heads"):
        assert shape[f"model.{key}"] == teacher[f"model.{key}"]
    assert teacher["model.dropout"] and not shape["model.dropout"]
    assert "++model.encoder_layers_to_keep='0,1'" in found.arguments(pair, WHOLE)


def test_what_goes_on_from_such_a_model_has_its_shape(pair):
    start, further = training(pair, "seq_inter"), training(pair, "seq_inter_mixture")
    assert start.layers and not further.layers and further.start == start.name

    def shape(found):
        return {k: v for k, v in found.resolved(pair).items() if k.startswith("model.")}

    assert shape(further) == shape(start)


def test_more_layers_than_the_start_has(pair):
    kept = {"start": "teacher", "layers": {"encoder": 9, "decoder": 1}}
    with pytest.raises(PipelineError, match=r"models\.kd\.layers\.encoder: 9, but teacher has 4"):
        training(pair, "kd", **kept).inputs(pair, WHOLE)


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"layers": {"encoder": 1, "decoder": 1}}, "add start, the model with these layers"),
        ({"start": "teacher", "layers": {"encoder": 1}}, "give {encoder: 1, decoder: 1}"),
        ({"start": "teacher", "layers": {"encoder": 0, "decoder": 1}}, "0 is no number of layers"),
    ],
)
def test_a_mistake_in_layers_is_one_line(entry, says):
    with pytest.raises(PipelineError, match=says) as error:
        model_list.merged({"teacher": None, "small": entry}, None, Path("pair.yaml"))
    assert str(error.value).startswith("pair.yaml: models.small.layers")
    assert "\n" not in str(error)
