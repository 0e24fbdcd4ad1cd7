"""Which engine translates: CTranslate2, or fairseq's own generator where CTranslate2 cannot."""

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
    """What translates.

    Attributes:
        name: with the precision.
        at_work: has `translate`; see `CTranslate2`.
        longest: how many subwords of a source the engine reads.
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
    """Return the engine that is asked for, ready to translate.

    Args:
        engine: one of `ENGINES`; auto: CTranslate2 for what it can express.
        teachers: fairseq's checkpoints; several translate as an ensemble.
        data: the dictionaries.
        search: how to translate.
        cfg: fairseq-generate's configuration.
        scratch: gets CTranslate2's model.
        quantization: of CTranslate2's weights.
        threads: how many; 0: as many as there are cores.

    Raises:
        UserError: CTranslate2 is asked for and cannot express the model or the search; or a
            checkpoint does not fit.
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
            del model  # CTranslate2 has the weights in a file of its own
            at_work = CTranslate2(
                scratch / "ctranslate2", data, search, threads=threads, gpu=not cfg.common.cpu
            )
            return Engine(f"CTranslate2 ({quantization})", at_work, most)
    if engine == CTRANSLATE2:
        raise UserError(f"{reason}: leave --engine out, or give --engine {FAIRSEQ}")
    if reason is not None:
        tell(f"{reason}; so fairseq's generator is at work, which takes longer")
    generator = FairseqGenerator(list(teachers), data, search, cfg, threads=threads)
    return Engine("fairseq's generator", generator, generator.longest)


def _beyond_ctranslate2(teachers: Sequence[Path], search: Search, cfg: Any) -> str | None:
    """Return why CTranslate2 cannot be at work, without a look at the model."""
    if importlib.util.find_spec("ctranslate2") is None:
        return "ctranslate2 is not installed (pip install 'ka-fairseq[export]')"
    if len(teachers) > 1:
        return "CTranslate2 cannot average several models"
    if cfg.common_eval.model_overrides != "{}":
        return "CTranslate2 knows no --model-overrides"
    if option := search.beyond_ctranslate2:
        return f"CTranslate2 knows no {option}"
    return None
