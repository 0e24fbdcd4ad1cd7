from __future__ import annotations

import functools
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import example, given
from hypothesis import strategies as st
from omegaconf import OmegaConf
from pipeline.engine.errors import PipelineError
from pipeline.models import hydra_configs, methods, settings

MODELS = {name: settings.load(settings.CONFIGS / name, Path()).models for name in settings.names()}
CONFIGS = sorted(
    {
        (pair, methods.find(model.config, settings.CONFIGS / pair).config)
        for pair, models in MODELS.items()
        for model in models
    }
)


def parsed(value):
    argument = hydra_configs.arguments({"a.b": value})[0]
    [override] = OverridesParser.create().parse_overrides([argument])
    return OmegaConf.to_container(OmegaConf.create({"a": override.value()}), resolve=True)["a"]


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
@example("/home/Jörg Müller/my runs (2)/a,b=[c]{d}:e'f\"g")
@example("back\\slash\\")
@example("\\'")
@example("${oc.env:HOME} \\${x}")
def test_any_path_survives(text):
    assert parsed(text) == text


@pytest.mark.parametrize("value", [None, True, False, 3, 0.5, [0.001], ["a b", "c'd"], []])
def test_other_values_survive(value):
    assert parsed(value) == value


def test_an_interpolation_stays_one():
    [argument] = hydra_configs.arguments({"a.b": "${c.max_update}"})
    [override] = OverridesParser.create().parse_overrides([argument])
    config = OmegaConf.create({"a": override.value(), "c": {"max_update": 7}})
    assert config.a == 7


def test_every_config_begins_with_its_command():
    names = {"teacher", "learner", "control", "ka"}
    assert {(pair, name) for pair in settings.names() for name in names} == set(CONFIGS)
    for pair, name in CONFIGS:
        lines = (settings.CONFIGS / pair / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
        command = f"# fairseq-hydra-train --config-dir configs/{pair} --config-name {name}"
        assert command in lines[:2], (pair, name)


@functools.cache
def resolved(pair, name):
    """What a config of a pair comes to."""
    return hydra_configs.resolve(settings.CONFIGS / pair, name, {})


@pytest.mark.parametrize(("pair", "name"), CONFIGS)
def test_every_config_stands_alone(pair, name):
    """Run as its header says, a config reads and writes where the pipeline does."""
    found = resolved(pair, name)
    training = next(model for model in MODELS[pair] if model.config == name)
    run = f"runs/{pair}"
    assert found["checkpoint.save_dir"] == f"{run}/{name}"
    assert found["task.data"] == f"{run}/bin"
    start = training.start and f"{run}/{training.start}/checkpoint_best.pt"
    assert found.get("checkpoint.finetune_from_model") == start
    teacher = training.teacher and f"{run}/{training.teacher}/checkpoint_best.pt"
    assert found.get("task.teacher_path") == teacher


@pytest.mark.parametrize("pair", settings.names())
def test_fine_tunings_differ_in_task_and_criterion_alone(pair):
    own = ("criterion.", "task.", "checkpoint.save_dir")

    def shared(name):
        return {key: v for key, v in resolved(pair, name).items() if not key.startswith(own)}

    assert shared("control") == shared("ka")
    for method in methods.known().values():
        assert all(key.startswith(own[:2]) for key in method)


def test_missing_config_is_one_line(tmp_path):
    with pytest.raises(PipelineError, match=r"kd\.yaml") as error:
        hydra_configs.resolve(tmp_path, "kd", {})
    assert "\n" not in str(error.value)


def test_what_a_config_leaves_alone_can_be_set():
    known = ["criterion.a"]
    assert hydra_configs.forced({"criterion.a": 1, "criterion.b": 2}, known) == [
        "criterion.a=1",
        "++criterion.b=2",
    ]
