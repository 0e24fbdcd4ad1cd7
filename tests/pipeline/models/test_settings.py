"""What a pair's `pair.yaml` says of Hydra configs that it shares with another pair."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from pipeline import stages
from pipeline.engine import files
from pipeline.engine.devices import WHOLE
from pipeline.engine.errors import PipelineError
from pipeline.models import settings

from tests.support import ROOT

DEMO = ROOT / "configs" / "demo"
TEXTS = sorted(path.parent for path in ROOT.glob("configs/texts/*/pair.yaml"))


@pytest.fixture
def load(tmp_path):
    def from_changes(variant="", **changes):
        content = yaml.safe_load((DEMO / "pair.yaml").read_text("utf-8"))
        del content["teacher"]
        folder = tmp_path / "own"
        text = yaml.safe_dump({**content, **changes}, sort_keys=False)
        files.write_text(folder / "pair.yaml", text)
        return settings.load(folder, tmp_path / "runs", variant=variant)

    return from_changes


def resolved(pair):
    return {training.name: training.resolved(pair) for training in stages.trainings(pair)}


def updates(pair):
    return {name: found["optimization.max_update"] for name, found in resolved(pair).items()}


def test_a_pair_takes_another_ones_configs(load, tmp_path):
    pair = load(configs=str(DEMO))
    [ka] = [training for training in stages.trainings(pair) if training.name == "ka"]
    words = ka.arguments(pair, WHOLE)
    assert words[:4] == ["--config-dir", str(DEMO), "--config-name", "ka"]
    assert f"checkpoint.save_dir='{tmp_path / 'runs' / 'own' / 'ka'}'" in words
    assert ka.resolved(pair)["criterion._name"] == "backward_kl"


def test_what_is_said_of_all_of_fine_tunings_and_of_one(load):
    pair = load(
        configs=str(DEMO),
        training={"optimization.max_update": 1000, "dataset.max_tokens": 77},
        finetuning={"optimization.max_update": 100},
        models={"ka": {"settings": {"optimization.max_update": 10}}},
    )
    found = updates(pair)
    assert (found["teacher"], found["learner"], found["kd"], found["ka"]) == (1000, 1000, 100, 10)
    assert {every["dataset.max_tokens"] for every in resolved(pair).values()} == {77}
    for training in stages.trainings(pair):
        given = [word.lstrip("+") for word in training.arguments(pair, WHOLE)]
        assert f"optimization.max_update={found[training.name]}" in given


def test_quick_is_quicker_than_all(load):
    given = {"optimization.max_update": 1000, "dataset.max_tokens": 77}
    models = {"ka": {"settings": given}}
    pair = load(variant="quick", configs=str(DEMO), training=given, finetuning=given, models=models)
    assert set(updates(pair).values()) == {30}
    assert resolved(pair)["ka"]["dataset.max_tokens"] == 77


@pytest.mark.parametrize(
    "pair",
    ["demo", "texts/multi30k_de_en", "texts/multi30k_layers", "texts/iwslt14_ted_de_en"],
)
def test_no_model_of_a_pair_is_slow_when_it_is_to_be_quick(pair, tmp_path):
    quick = settings.load(settings.CONFIGS / pair, tmp_path, variant="quick")
    assert set(updates(quick).values()) == {30}


def test_full_is_longer(load):
    longer = {"training": {"optimization.max_update": 9}}
    pair = load(variant="full", configs=str(DEMO), full=longer)
    assert pair.name == "own-full"
    assert {updates(pair)[name] for name in ("control", "kd", "seq_inter_kd")} == {9}


@pytest.mark.parametrize(
    ("full", "says"),
    [
        (None, "has no section full"),
        ({"models": {}}, "full has no models: choose from text, segm"),
    ],
)
def test_a_mistake_in_full_is_one_line(load, full, says):
    with pytest.raises(PipelineError, match=says):
        load(variant="full", full=full)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"configs": "../nowhere"}, r"configs: .*nowhere is no folder"),
        ({"training": ["max_update"]}, r"training: give settings of fairseq's by dotted keys"),
        ({"finetuning": 3}, r"finetuning: give settings"),
    ],
)
def test_a_mistake_is_one_line(load, changes, says):
    with pytest.raises(PipelineError, match=says) as error:
        load(**changes)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", TEXTS, ids=lambda folder: folder.name)
def test_the_texts_that_methods_are_compared_on(folder):
    """They have no text of their own, so they are no pairs to be run by name."""
    pair = settings.load(folder, Path("runs"), own=(Path("text"), "de", "en"))
    assert pair.files.hydra_dir == DEMO and folder.name not in settings.names()
    assert {"control", "kd", "ka", "mixture", "topk", "seq_inter"} <= resolved(pair).keys()
