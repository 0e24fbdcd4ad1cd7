"""Stages `lenpen.MODEL`: choose the length penalty of each model on the validation set.

CTranslate2 searches once, with the first beam. The search is the same for any length penalty above
zero: the penalty only ranks the hypotheses that were found. So the stage ranks the hypotheses again
for each value, and scores the best translations of each value.

CTranslate2 keeps as many hypotheses as the beam. If more hypotheses than that end at the same time,
CTranslate2 drops some of them: the worst at a length penalty of 1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU

from pipeline.engine import commands, files, state
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import say
from pipeline.engine.stage import Stage
from pipeline.models import exporting, n_best_job
from pipeline.models.settings import REPOSITORY, Pair
from pipeline.text import segmentation

GROUP = "lenpen"
TRIED = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8)
USUAL = 1.0
"""The length penalty of models that cannot be tuned: the default of fairseq and the paper."""

Hypotheses = Sequence[Mapping[str, Any]]


def name(model: str) -> str:
    """Return the name of a model's stage."""
    return f"{GROUP}.{model}"


def needs(pair: Pair, model: str) -> tuple[str, ...]:
    """Return the stage that chooses for a model; empty if the pair's settings have a number."""
    return (name(model),) if pair.decoding.lenpen is None else ()


def stages(pair: Pair, models: Iterable[str]) -> list[Stage]:
    """Return the stages that choose for the models; empty if the pair's settings have a number."""
    return [_stage(pair, model) for model in models if needs(pair, model)]


def _stage(pair: Pair, model: str) -> Stage:
    return Stage(
        name(model),
        lambda slot: choose(pair, slot, model),
        lambda slot: inputs(pair, model),
        needs=("binarize", model),
        cheap=True,
    )


def of(pair: Pair, model: str) -> float:
    """Return the length penalty that a model translates with; `USUAL` before its stage is done."""
    fixed = pair.decoding.lenpen
    return fixed if fixed is not None else facts(pair, model).get("lenpen", USUAL)


def facts(pair: Pair, model: str) -> dict[str, Any]:
    """Return what `choose` returned; an empty dict if the stage is not done."""
    return state.facts(pair.files.run_dir, name(model))


def inputs(pair: Pair, model: str) -> dict[str, Any]:
    """Return what the choice depends on."""
    return {
        "model": files.sha256(pair.files.model(model)),
        "beam": pair.decoding.beam,
        "tried": TRIED,
        "quantization": pair.quantization,
        "from binarize": state.fingerprint(pair.files.run_dir, "binarize"),
    }


def choose(pair: Pair, slot: Slot, model: str) -> dict[str, Any]:
    """Translate the validation set, and choose the length penalty with the best BLEU.

    Returns:
        `lenpen`: the length penalty with the best BLEU; if several are equal, the nearest to 1.
        `tried`: the BLEU of each length penalty. For a model that CTranslate2 cannot express,
        `lenpen` is `USUAL`, and `refused` is the reason.

    Raises:
        PipelineError: CTranslate2 failed.
    """
    if pair.decoding.beam == 1:
        return {"lenpen": USUAL, "tried": {}}  # a single hypothesis needs no ranking
    scratch = pair.files.model_dir(model) / GROUP
    files.remove(scratch)  # of an interrupted run
    scratch.mkdir()
    try:
        found = _n_best(pair, slot, model, scratch)
    except exporting.NotExported as error:
        say(f"{name(model)}: {USUAL:g}, as CTranslate2 cannot try others: {error}")
        return {"lenpen": USUAL, "tried": {}, "refused": str(error)}
    finally:
        files.remove(scratch)
    references = files.read_lines(pair.files.text_dir / f"valid.{pair.target_lang}")
    tried = {value: _bleu(pair, best(found, value), references) for value in TRIED}
    chosen = max(tried, key=lambda value: (tried[value], -abs(value - USUAL)))
    say(f"{name(model)}: {chosen:g}, with {tried[chosen]:.1f} BLEU on validation")
    return {"lenpen": chosen, "tried": {f"{value:g}": bleu for value, bleu in tried.items()}}


def best(found: Iterable[Hypotheses], lenpen: float) -> list[list[str]]:
    """Return the subwords of each line's best hypothesis; an empty list for a line without any.

    Args:
        found: the hypotheses of each line: `log_probability` and `subwords`.
        lenpen: hypotheses are ranked by log-probability / (length + 1) ** `lenpen`. The end of the
            sentence is the 1.
    """

    def score(hypothesis: Mapping[str, Any]) -> float:
        return hypothesis["log_probability"] / (len(hypothesis["subwords"]) + 1) ** lenpen

    return [max(line, key=score)["subwords"] if line else [] for line in found]


def _n_best(pair: Pair, slot: Slot, model: str, scratch: Path) -> list[Hypotheses]:
    dictionaries = tuple(pair.files.bin_dir / f"dict.{language}.txt" for language in pair.languages)
    exporting.convert(pair.files.model(model), scratch / "model", dictionaries, pair.quantization)
    job = n_best_job.Job(
        model=str(scratch / "model"),
        source=str(pair.files.bin_dir / "segmented" / f"valid.{pair.source_lang}"),
        target=str(scratch / "n_best.jsonl"),
        beam=pair.decoding.beam,
        threads=slot.threads or 0,
    )
    path = scratch / "job.json"
    files.write_json(path, asdict(job))
    command = [*commands.python_module(n_best_job.__name__), str(path)]
    folder = REPOSITORY / "scripts"  # where Python finds the module
    commands.run(command, pair.files.log(name(model)), folder=folder, slot=slot)
    return [json.loads(line) for line in files.read_lines(Path(job.target))]


def _bleu(pair: Pair, translations: Iterable[Sequence[str]], references: Sequence[str]) -> float:
    lines = [segmentation.join(" ".join(line), pair.segmentation) for line in translations]
    if len(lines) != len(references):
        raise PipelineError(f"{len(lines)} translations of {len(references)} validation sentences")
    # force: both sides may be tokenized text, and sacrebleu need not warn of it.
    return BLEU(force=True).corpus_score(lines, [references]).score
