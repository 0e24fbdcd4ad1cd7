"""The methods of all pairs, as changes to the Hydra config of KA."""

from __future__ import annotations

import shutil
from dataclasses import fields

import pytest
from fairseq.criterions import CRITERION_DATACLASS_REGISTRY
from fairseq.tasks import TASK_DATACLASS_REGISTRY
from pipeline import stages
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import methods, settings

import ka_fairseq  # noqa: F401  registers the task and the criterions
from tests.pipeline import own_configs

DEMO = settings.CONFIGS / "demo"


def options(dataclass):
    return {"_name", *(field.name for field in fields(dataclass))}


@pytest.mark.parametrize("name", methods.known())
def test_a_method_sets_options_that_there_are(name):
    found = methods.find(name, DEMO)
    assert found.config == "ka"
    criterion = found.settings.get("criterion._name", "backward_kl")
    known = {f"criterion.{key}" for key in options(CRITERION_DATACLASS_REGISTRY[criterion])}
    task = TASK_DATACLASS_REGISTRY["translation_with_teacher"]
    known |= {f"task.{key}" for key in options(task)}
    assert set(found.settings) <= known


def test_a_file_of_the_pair_takes_the_place_of_a_method(tmp_path):
    configs = own_configs.copied("demo", tmp_path / "own")
    shutil.copy(configs / "ka.yaml", configs / "kd.yaml")
    pair = settings.load(configs, tmp_path / "runs")
    [kd] = [training for training in stages.trainings(pair) if training.name == "kd"]
    assert "kd" in kd.arguments(pair, WHOLE)
    assert kd.resolved(pair)["criterion._name"] == "backward_kl"


def test_the_pair_and_the_model_come_after_the_method(tmp_path):
    configs = own_configs.copied("demo", tmp_path / "own")
    with own_configs.changing(configs) as content:
        content["training"] = {"criterion.transfer_weight": 0.3, "criterion.skew_alpha": 0.2}
        own = {"criterion.skew_alpha": 0.4}
        content["models"]["skew_forward_kl"]["settings"] = own
    pair = settings.load(configs, tmp_path / "runs")
    found = {training.name: training.resolved(pair) for training in stages.trainings(pair)}
    assert found["tie_kd"]["criterion.transfer_weight"] == 0.3
    assert found["skew_backward_kl"]["criterion.skew_alpha"] == 0.2
    assert found["skew_forward_kl"]["criterion.skew_alpha"] == 0.4


def test_a_name_of_neither_is_one_line():
    with pytest.raises(PipelineError, match=r"kda: there is no .*kda\.yaml.*ka, kd, mix") as error:
        methods.find("kda", DEMO)
    assert "\n" not in str(error.value)
