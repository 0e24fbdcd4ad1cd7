"""Stages `evaluate.MODEL`: translate the test set with a trained model, and score."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from pipeline import files, state
from pipeline.settings import Pair
from pipeline.stage import Stage
from pipeline.translate import translate


def hypotheses(pair: Pair, model: str) -> list[str]:
    """Return a model's translations of the test set, in its order."""
    return files.read_lines(_hypothesis_file(pair, model))


def references(pair: Pair) -> list[str]:
    """Return the test set's translations as they were before any tokenization."""
    return files.read_lines(pair.reference)


def scores(pair: Pair, model: str) -> dict[str, Any] | None:
    """Return the scores of a model as its stage found them, or None where it did not run."""
    record = state.read(pair.run_dir, name(model))
    return dict(record.facts) if record is not None and record.done else None


def name(model: str) -> str:
    """Return the name of a model's stage."""
    return f"evaluate.{model}"


def stage(model: str) -> Stage:
    """Return the stage that translates the test set with one model and scores it."""
    return Stage(
        name(model),
        functools.partial(evaluate_model, model=model),
        lambda pair: {**pair.decoding, "model": files.sha256(pair.model(model))},
        needs=(model,),
        cheap=True,
    )


def evaluate_model(pair: Pair, model: str) -> dict[str, Any]:
    """Translate the test set with one model and score it; return what `score` does.

    Raises:
        PipelineError: fairseq-generate failed, or left a sentence out.
    """
    translations = translate(
        pair.model(model),
        pair.bin_dir,
        "test",
        count=len(references(pair)),
        pair=pair,
        log=pair.log(name(model)),
        title=model,
    )
    files.write_lines(_hypothesis_file(pair, model), translations)
    return score(translations, references(pair))


def score(translations: list[str], target: list[str]) -> dict[str, Any]:
    """Score translations against one reference each, with sacrebleu.

    Returns:
        BLEU, chrF, brevity penalty, length ratio (hypothesis to reference) and both signatures.
    """
    bleu, chrf = BLEU(), CHRF()
    bleu_score = bleu.corpus_score(translations, [target])
    return {
        "bleu": bleu_score.score,
        "chrf": chrf.corpus_score(translations, [target]).score,
        "brevity_penalty": bleu_score.bp,
        "length_ratio": bleu_score.sys_len / bleu_score.ref_len,
        "signatures": {
            "BLEU": str(bleu.get_signature()),
            "chrF": str(chrf.get_signature()),
        },
    }


def _hypothesis_file(pair: Pair, model: str) -> Path:
    return pair.evaluate_dir / f"{model}.{pair.target_lang}"
