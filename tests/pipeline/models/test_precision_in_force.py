"""float16 is the config's, switched off where there is no GPU, and recorded as it is in force."""

import pytest
from pipeline.engine.devices import Slot
from pipeline.models import settings
from pipeline.models.training import Training

from tests.support import ROOT

GPU, CPU = Slot(gpus=("0",)), Slot(gpus=())


@pytest.fixture
def training(tmp_path):
    """A function of precision settings: a training of the Th–En pair with them, and the pair."""

    def make(**precision):
        pair = settings.load(ROOT / "configs" / "iwslt15_th_en", tmp_path)
        varied = {f"common.{name}": value for name, value in precision.items()}
        return Training("learner", config="learner", settings=varied), pair

    return make


def in_force(made, slot):
    """What fairseq-hydra-train is told of float16, and what is recorded."""
    model, pair = made
    told = [word for word in model.arguments(pair, slot) if "fp16=" in word]
    recorded = {name: value for name, value in model.inputs(pair, slot).items() if "fp16" in name}
    return told, recorded


def test_on_a_gpu_the_config_decides(training):
    assert in_force(training(), GPU) == ([], {"common.fp16": True})
    told, recorded = in_force(training(fp16=False, bf16=True), GPU)
    assert recorded == {"common.fp16": False} and not any("fp16=true" in word for word in told)


def test_without_a_gpu_it_is_switched_off_and_never_on(training):
    assert in_force(training(), CPU) == (["common.fp16=false"], {"common.fp16": False})
    _, recorded = in_force(training(memory_efficient_fp16=True), CPU)
    assert recorded == {"common.fp16": False, "common.memory_efficient_fp16": False}


def test_a_run_begun_on_a_cpu_does_not_go_on_in_half_precision(training):
    model, pair = training()
    begun, resumed = (model.inputs(pair, slot) for slot in (CPU, GPU))
    assert {key for key in begun if begun[key] != resumed[key]} == {"common.fp16"}


def test_bf16_is_left_as_it_is(training):
    model, pair = training(fp16=False, bf16=True)
    for slot in (CPU, GPU):
        assert model.inputs(pair, slot)["common.bf16"] is True
        assert not any("bf16=false" in w for w in model.arguments(pair, slot))
