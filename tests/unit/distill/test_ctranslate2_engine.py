"""Where CTranslate2 translates: a GPU that is there may lack the CUDA that it was built for."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from ka_fairseq.distill.ctranslate2_engine import CTranslate2
from ka_fairseq.distill.search import Search

MISSING = "Library libcublas.so.12 is not found\nor cannot be loaded"
HOW = {
    **{"beam": 4, "nbest": 2, "lenpen": 0.8, "unnormalized": False},
    **{"max_len_a": 1.5, "max_len_b": 20, "min_len": 1, "no_repeat_ngram_size": 0},
    **{"sampling": False, "sampling_topk": -1, "sampling_topp": 0.9, "temperature": 0.7},
}
SENTENCES = {3: torch.tensor([0, 1, 2]), 5: torch.tensor([1, 2])}


class Dictionary:
    symbols = ("a", "b", "</s>")

    def eos(self):
        return 2


class Translator:
    """What CTranslate2 gives; the first translation on a GPU loads cuBLAS."""

    works = True
    made: list = []  # noqa: RUF012  each test has a class of its own

    def __init__(self, model, device, inter_threads=None, intra_threads=None):
        self.device = device
        self.threads = inter_threads, intra_threads
        self.asked = []
        self.made.append(self)

    def translate_batch(self, sources, **options):
        if self.device == "cuda" and not self.works:
            raise RuntimeError(MISSING)
        self.asked.append((sources, options))
        results = [SimpleNamespace(scores=[-1.0], hypotheses=[words]) for words in sources]
        return [SimpleNamespace(result=lambda result=result: result) for result in results]


@pytest.fixture
def engine(monkeypatch):
    """A function that makes an engine; CTranslate2 sees as many GPUs as it says."""

    def make(gpus=0, works=True, gpu=True, **how):
        made = type("Translator", (Translator,), {"works": works, "made": []})
        seeds = []
        fake = SimpleNamespace(
            get_cuda_device_count=lambda: gpus, set_random_seed=seeds.append, Translator=made
        )
        monkeypatch.setitem(sys.modules, "ctranslate2", fake)
        search = Search(SimpleNamespace(**HOW | how), longest=9, max_tokens=9, seed=1)
        data = SimpleNamespace(dictionaries=(Dictionary(), None))
        return CTranslate2("folder", data, search, threads=2, gpu=gpu), made.made, seeds

    return make


@pytest.mark.parametrize(
    ("gpus", "works", "gpu", "device", "says"),
    [
        (0, True, True, "cpu", ""),
        (1, True, True, "cuda", ""),
        (1, True, False, "cpu", ""),
        (1, False, True, "cpu", MISSING.replace("\n", " ")),
    ],
)
def test_a_gpu_is_used_where_it_can_be(engine, capsys, gpus, works, gpu, device, says):
    made, translators, _ = engine(gpus, works, gpu)
    made.translate(SENTENCES, 7, lambda count: None)
    assert translators[-1].device == device
    assert says in capsys.readouterr().out


def test_a_search_runs_batches_beside_each_other(engine):
    made, translators, seeds = engine()
    told = []
    found = made.translate(SENTENCES, 7, told.append)
    made.translate(SENTENCES, 8, told.append)
    assert {line: [c.text for c in of] for line, of in found.items()} == {3: ["a b"], 5: ["b"]}
    assert sum(told) == 4 and seeds == []
    (translator,) = translators
    assert translator.threads == (2, 1)
    sources, options = translator.asked[0]
    assert sources == [["b"], ["a", "b"]]
    assert options["length_penalty"] == 0.8 and options["beam_size"] == 4
    assert options["max_decoding_length"] == int(1.5 * 3 + 20)  # as fairseq counts, with the end
    assert "sampling_topp" not in options


def test_samples_are_drawn_by_one_translator_a_shard(engine):
    made, translators, seeds = engine(sampling=True, nbest=4)
    for seed in (7, 8):
        made.translate(SENTENCES, seed, lambda count: None)
    assert seeds == [7, 8] and [one.threads for one in translators] == [(1, 2)] * 2
    _, options = translators[0].asked[0]
    assert options["num_hypotheses"] == 4 and options["beam_size"] == 1
    assert options["sampling_topk"] == 0 and options["sampling_topp"] == 0.9
    assert options["sampling_temperature"] == 0.7
