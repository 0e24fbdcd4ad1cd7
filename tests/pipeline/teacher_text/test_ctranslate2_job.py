"""Where CTranslate2 translates: a GPU that is there may lack the CUDA that it was built for."""

import sys
from types import SimpleNamespace

import pytest
from pipeline.teacher_text import ctranslate2_job

JOB = {"model": "folder", "threads": 1}
MISSING = "Library libcublas.so.12 is not found\nor cannot be loaded"


class Translator:
    """What CTranslate2 gives; the first translation on a GPU loads cuBLAS."""

    works = True

    def __init__(self, model, device, inter_threads, intra_threads):
        assert (model, inter_threads, intra_threads) == ("folder", 1, 1)
        self.device = device

    def translate_batch(self, *_, **__):
        if self.device == "cuda" and not self.works:
            raise RuntimeError(MISSING)


@pytest.mark.parametrize(
    ("gpus", "works", "device", "says"),
    [
        (0, True, "cpu", ""),
        (1, True, "cuda", ""),
        (1, False, "cpu", f"{ctranslate2_job.NO_GPU} {MISSING.replace(chr(10), ' ')}\n"),
    ],
)
def test_a_gpu_is_used_where_it_can_be(monkeypatch, capsys, gpus, works, device, says):
    seeds = []
    fake = SimpleNamespace(
        get_cuda_device_count=lambda: gpus,
        set_random_seed=seeds.append,
        Translator=type("Translator", (Translator,), {"works": works}),
    )
    monkeypatch.setitem(sys.modules, "ctranslate2", fake)
    assert ctranslate2_job.load(JOB, seed=7).device == device
    assert capsys.readouterr().out == says
    assert set(seeds) == {7}  # before each translator, as that is when it takes it
