"""Stages `evaluate.MODEL`: translate a test set with a trained model, and score."""

from __future__ import annotations

from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from pipeline.engine import files, state
from pipeline.engine.devices import Slot
from pipeline.engine.stage import Stage
from pipeline.models import lenpen
from pipeline.models.settings import Pair
from pipeline.results.evaluation_sets import MAIN, EvaluationSet
from pipeline.results.generate import translate


def hypotheses(pair: Pair, model: str, which: EvaluationSet = MAIN) -> list[str]:
    """Return a model's translations of a test set, in the order of the test set."""
    return files.read_lines(which.hypotheses(pair, model))


def references(pair: Pair, which: EvaluationSet = MAIN) -> list[str]:
    """Return a test set's references, untokenized."""
    return files.read_lines(which.reference(pair))


def scores(pair: Pair, model: str, which: EvaluationSet = MAIN) -> dict[str, Any] | None:
    """Return the scores that a model's stage found, or None if the stage did not run."""
    return state.facts(pair.files.run_dir, name(model, which)) or None


def name(model: str, which: EvaluationSet = MAIN) -> str:
    """Return the name of a model's stage."""
    return f"evaluate.{which.name}/{model}" if which.name else f"evaluate.{model}"


def stage(pair: Pair, model: str, which: EvaluationSet = MAIN) -> Stage:
    """Return the stage that translates a test set with one model and scores it.

    Args:
        pair: the language pair.
        model: the name of the training.
        which: the test set.
    """
    made_by = () if which == MAIN else (which.made_by,)
    return Stage(
        name(model, which),
        lambda slot: evaluate_model(pair, slot, model, which),
        lambda slot: _inputs(pair, model, which),
        needs=(model, *lenpen.needs(pair, model), *made_by),
        cheap=True,
    )


def _inputs(pair: Pair, model: str, which: EvaluationSet) -> dict[str, Any]:
    decoding = pair.decoding.inputs(lenpen.of(pair, model))
    found = {**decoding, "model": files.sha256(pair.files.model(model))}
    if which == MAIN:  # the model's stage depends on this text already
        return found
    return {**found, "from test": state.fingerprint(pair.files.run_dir, which.made_by)}


def evaluate_model(
    pair: Pair, slot: Slot, model: str, which: EvaluationSet = MAIN
) -> dict[str, Any]:
    """Translate a test set with one model and score the translations; return the result of `score`.

    Raises:
        PipelineError: fairseq-generate failed, or a sentence has no translation.
    """
    target = references(pair, which)
    translations = translate(
        pair.files.model(model),
        which.bin_dir(pair),
        "test",
        count=len(target),
        pair=pair,
        slot=slot,
        lenpen=lenpen.of(pair, model),
        log=pair.files.log(name(model, which)),
        title=model,
    )
    files.write_lines(which.hypotheses(pair, model), translations)
    return score(translations, target)


def score(translations: list[str], target: list[str]) -> dict[str, Any]:
    """Score translations against one reference each with sacrebleu.

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
