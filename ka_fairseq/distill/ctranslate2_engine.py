"""Translate with CTranslate2, on all cores or on a GPU."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ka_fairseq.distill import databin
from ka_fairseq.distill.batches import batches
from ka_fairseq.distill.databin import DataBin
from ka_fairseq.distill.search import Search
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.distill.telling import tell


class CTranslate2:
    """An engine that translates with a CTranslate2 model."""

    def __init__(
        self, model: Path, data: DataBin, search: Search, *, threads: int, gpu: bool
    ) -> None:
        """Store the settings. The first call of `translate` loads the model.

        Args:
            model: the folder that `ka_fairseq.export.convert` wrote.
            data: the data-bin with the source dictionary.
            search: the options of the search.
            threads: number of threads; 0 means one per core.
            gpu: whether a GPU may be used.
        """
        self._model = model
        self._source, _ = data.dictionaries
        self._search = search
        self._threads = threads or _cores()
        self._gpu = gpu
        self._translator: Any = None

    def translate(
        self, found: Mapping[int, Tensor], seed: int, told: Callable[[int], None]
    ) -> dict[int, list[Candidate]]:
        """Translate sentences.

        Args:
            found: token ids of each source by line number, with the end of the sentence.
            seed: the random seed for samples.
            told: called after each batch with the number of sentences in the batch.

        Returns:
            The translations of each line, best first.
        """
        sampling = self._search.generation.sampling
        if sampling:  # a thread reads the seed only once: load anew for each seed
            self._translator = self._load(seed)
        elif self._translator is None:
            self._translator = self._load(None)
        words = {line: databin.subwords(ids, self._source) for line, ids in found.items()}
        started = [
            (lines, self._start(lines, words)) for lines in batches(words, self._search.max_tokens)
        ]
        translations: dict[int, list[Candidate]] = {}
        for lines, results in started:
            for line, result in zip(lines, results, strict=True):
                done = result.result()
                translations[line] = [
                    Candidate(score, " ".join(subwords))
                    for score, subwords in zip(done.scores, done.hypotheses, strict=True)
                ]
            told(len(lines))
        return translations

    def _start(self, lines: Sequence[int], words: Mapping[int, list[str]]) -> list[Any]:
        sources = [words[line] for line in lines]
        return self._translator.translate_batch(
            sources,
            **_options(self._search),
            max_input_length=0,  # no limit: sources that are too long were left out before
            max_decoding_length=self._search.most(max(map(len, sources))),
            return_scores=True,
            asynchronous=True,
        )

    def _load(self, seed: int | None) -> Any:
        """Return the translator, on a GPU if CTranslate2 can use one."""
        import ctranslate2

        if seed is not None:
            ctranslate2.set_random_seed(seed)
        if self._gpu and ctranslate2.get_cuda_device_count():
            translator = ctranslate2.Translator(str(self._model), device="cuda")
            try:
                # This call loads cuBLAS, and fails without the version that CTranslate2 needs.
                translator.translate_batch([[""]], max_decoding_length=1)
            except RuntimeError as error:
                self._gpu = False
                reason = " ".join(str(error).split())
                tell(f"translating on the CPU: CTranslate2 cannot use this GPU ({reason})")
            else:
                return translator
            if seed is not None:
                ctranslate2.set_random_seed(seed)
        # Beam search runs one batch per thread. Sampling runs one batch on all threads, because
        # with several batches at a time a sample would depend on the thread.
        beside, within = (1, self._threads) if seed is not None else (self._threads, 1)
        return ctranslate2.Translator(
            str(self._model), device="cpu", inter_threads=beside, intra_threads=within
        )


def _options(search: Search) -> dict[str, Any]:
    how = search.generation
    found = {
        "num_hypotheses": how.nbest,
        "min_decoding_length": how.min_len,
        "no_repeat_ngram_size": how.no_repeat_ngram_size,
    }
    if not how.sampling:
        return {
            **found,
            "beam_size": how.beam,
            "length_penalty": 0.0 if how.unnormalized else how.lenpen,
        }
    return {
        **found,
        "beam_size": 1,
        "sampling_topk": max(how.sampling_topk, 0),  # 0: all types; CTranslate2's default is 1
        "sampling_topp": how.sampling_topp if how.sampling_topp > 0 else 1.0,
        "sampling_temperature": how.temperature,
    }


def _cores() -> int:
    """Return the number of processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
