"""Translate with fairseq's generator: for ensembles and for models unsupported by CTranslate2."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from fairseq import checkpoint_utils, utils
from torch import Tensor

from ka_fairseq.distill.batches import batches
from ka_fairseq.distill.databin import DataBin, subwords
from ka_fairseq.distill.search import Search
from ka_fairseq.distill.shards import Candidate
from ka_fairseq.errors import UserError


class FairseqGenerator:
    """An engine with one model, or with an ensemble that averages probabilities."""

    def __init__(
        self, teachers: list[Path], data: DataBin, search: Search, cfg: Any, *, threads: int
    ) -> None:
        """Load the models.

        Args:
            teachers: the checkpoints.
            data: the data-bin with the dictionaries and the task.
            search: the options of the search.
            cfg: fairseq-generate's configuration.
            threads: number of threads; 0 means PyTorch's default.

        Raises:
            UserError: a checkpoint cannot be read or does not fit the dictionaries.
        """
        if threads:
            torch.set_num_threads(threads)
        self._data = data
        self._search = search
        self._cuda = torch.cuda.is_available() and not cfg.common.cpu
        self._models = _models(teachers, data.task, cfg)
        for model in self._models:
            if cfg.common.fp16:
                model.half()
            if self._cuda:
                model.cuda()
            model.prepare_for_inference_(cfg)
        self._generator = data.task.build_generator(self._models, search.generation)

    @property
    def longest(self) -> int:
        """The greatest number of source subwords that the models read, without the end."""
        return min(int(model.max_positions()[0]) for model in self._models) - 1

    def translate(
        self, found: Mapping[int, Tensor], seed: int, told: Callable[[int], None]
    ) -> dict[int, list[Candidate]]:
        """Translate sentences; arguments and result as in `CTranslate2.translate`."""
        utils.set_torch_seed(seed)
        translations: dict[int, list[Candidate]] = {}
        for lines in batches(found, self._search.max_tokens):
            sample = self._data.collate(lines, [found[line] for line in lines])
            sample = utils.move_to_cuda(sample) if self._cuda else sample
            hypotheses = self._data.task.inference_step(self._generator, self._models, sample)
            for line, of_sentence in zip(sample["id"].tolist(), hypotheses, strict=True):
                best = of_sentence[: self._search.generation.nbest]
                translations[line] = [self._candidate(one) for one in best]
            told(len(lines))
        return translations

    def _candidate(self, hypothesis: Mapping[str, Any]) -> Candidate:
        _, target = self._data.dictionaries
        return Candidate(
            float(hypothesis["score"]), " ".join(subwords(hypothesis["tokens"], target))
        )


def _models(teachers: list[Path], task: Any, cfg: Any) -> list[Any]:
    overrides = ast.literal_eval(cfg.common_eval.model_overrides)
    try:
        models, _ = checkpoint_utils.load_model_ensemble(
            [str(path) for path in teachers], arg_overrides=overrides, task=task
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(
            f"the weights in {' or '.join(map(str, teachers))} do not fit the data-bin's "
            f"dictionaries: give a data-bin with the teacher's dictionaries ({reason})"
        ) from error
    return models
