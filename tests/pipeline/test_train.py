"""What fairseq-hydra-train is called with for a model of the list."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pipeline.models import Model
from pipeline.train import Training

START = "checkpoint.finetune_from_model"


def training(pair, name: str, **changes: object) -> Training:
    """A model of the pair's list as a training, with other fields."""
    model: Model = next(model for model in pair.models if model.name == name)
    return Training(**vars(replace(model, **changes)))


def test_without_a_start_nothing_is_loaded(pair):
    """The config of `kd` names the learner's checkpoint, and only a start may."""
    assert training(pair, "kd").resolved(pair)[START]
    assert f"{START}=null" in training(pair, "kd", start=None).arguments(pair)


def test_with_a_start_its_best_checkpoint_is_loaded(pair):
    best = pair.best_checkpoint("learner")
    assert f"{START}='{best}'" in training(pair, "kd").arguments(pair)


def test_the_start_is_an_input(pair):
    """Else a result from nothing would pass for one that went on from the learner."""
    assert training(pair, "kd").inputs(pair)[START] == "learner"
    assert training(pair, "kd", start=None).inputs(pair)[START] is None


@pytest.mark.parametrize("name", ["kd_scratch", "ka_scratch", "seq_inter_kd"])
def test_from_nothing_beside_the_teacher(pair, name):
    """Word-level methods from nothing have the learner's schedule, and a teacher."""
    found, learner = (training(pair, n).resolved(pair) for n in (name, "learner"))
    assert found["task._name"] == "translation_with_teacher"
    assert {k: v for k, v in found.items() if k.startswith("optimization.")} == {
        k: v for k, v in learner.items() if k.startswith("optimization.")
    }
    words = training(pair, name).arguments(pair)
    assert f"++task.teacher_path='{pair.best_checkpoint('teacher')}'" in words
    assert f"{START}=null" in [word.lstrip("+") for word in words]
    # The cache is where the pipeline fills it, whatever the entry that switches it on says.
    [cache] = [word for word in words if "task.teacher_cache=" in word]
    assert cache.startswith(f"++task.teacher_cache='{pair.model_dir('teacher')}")
