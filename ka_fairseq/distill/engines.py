"""Choose the engine: CTranslate2 if it supports model and search, else fairseq's generator."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ka_fairseq.distill.ctranslate2_engine import CTranslate2
from ka_fairseq.distill.databin import DataBin
from ka_fairseq.distill.fairseq_engine import FairseqGenerator
from ka_fairseq.distill.search import Search
from ka_fairseq.distill.telling import tell
from ka_fairseq.errors import UserError
from ka_fairseq.export import convert

AUTO, CTRANSLATE2, FAIRSEQ = ENGINES = ("auto", "ctranslate2", "fairseq")


@dataclass(frozen=True)
class Engine:
    """An engine for translation.

    Attributes:
        name: the engine's name with its precision.
        at_work: the object with the method `translate`; see `CTranslate2`.
        longest: the greatest number of source subwords that the engine reads.
    """

    name: str
    at_work: CTranslate2 | FairseqGenerator
    longest: int


def choose(
    engine: str,
    teachers: Sequence[Path],
    data: DataBin,
    search: Search,
    cfg: Any,
    scratch: Path,
    *,
    quantization: str,
    threads: int,
) -> Engine:
    """Return the requested engine, ready to translate.

    Args:
        engine: one of `ENGINES`; auto means CTranslate2 if it supports model and search, otherwise
            fairseq's generator.
        teachers: fairseq checkpoints; several form an ensemble.
        data: the data-bin with the dictionaries.
        search: the options of the search.
        cfg: fairseq-generate's configuration.
        scratch: a folder for CTranslate2's model.
        quantization: type of CTranslate2's weights.
        threads: number of threads; 0 means one per core.

    Raises:
        UserError: CTranslate2 is requested and does not support the model or the search, or a
            checkpoint does not fit the dictionaries.
    """
    reason = None if engine == FAIRSEQ else _beyond_ctranslate2(teachers, search, cfg)
    if engine != FAIRSEQ and reason is None:
        try:
            model = convert(
                teachers[0],
                scratch / "ctranslate2",
                dictionaries=data.dictionary_files,
                quantization=quantization,
            )
        except UserError as error:
            reason = str(error).removeprefix("error: ")
        else:
            most, _ = model.max_tokens
            del model  # CTranslate2 reads the weights from its own file
            at_work = CTranslate2(
                scratch / "ctranslate2", data, search, threads=threads, gpu=not cfg.common.cpu
            )
            return Engine(f"CTranslate2 ({quantization})", at_work, most)
    if engine == CTRANSLATE2:
        raise UserError(f"{reason}: leave --engine out, or give --engine {FAIRSEQ}")
    if reason is not None:
        tell(f"{reason}; fairseq's generator translates instead, which is slower")
    generator = FairseqGenerator(list(teachers), data, search, cfg, threads=threads)
    return Engine("fairseq's generator", generator, generator.longest)


def _beyond_ctranslate2(teachers: Sequence[Path], search: Search, cfg: Any) -> str | None:
    """Return why CTranslate2 cannot translate, or None, without loading the model."""
    if importlib.util.find_spec("ctranslate2") is None:
        return "ctranslate2 is not installed (pip install 'ka-fairseq[export]')"
    if len(teachers) > 1:
        return "CTranslate2 cannot average several models"
    if cfg.common_eval.model_overrides != "{}":
        return "CTranslate2 has no --model-overrides"
    if option := search.beyond_ctranslate2:
        return f"CTranslate2 has no {option}"
    return None
