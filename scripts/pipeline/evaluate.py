"""Stage `evaluate`: translate the test set with every trained model, and score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sacrebleu.metrics import BLEU, CHRF

from pipeline import commands, files, state
from pipeline.errors import PipelineError
from pipeline.progress import bar
from pipeline.settings import USER_DIR, Pair


def hypotheses(pair: Pair, model: str) -> list[str]:
    """Return a model's translations of the test set, in its order."""
    return files.read_lines(_hypothesis_file(pair, model))


def references(pair: Pair) -> list[str]:
    """Return the test set's translations as they were before any tokenization."""
    return files.read_lines(pair.reference)


def scores(pair: Pair, model: str) -> dict[str, Any] | None:
    """Return the scores of a model as `evaluate_model` found them, or None where it did not run."""
    record = state.read(pair.run_dir, _stage(model))
    return dict(record.facts) if record is not None and record.done else None


def evaluate_model(pair: Pair, model: str) -> None:
    """Translate the test set with one model and score it, unless that is done.

    Raises:
        PipelineError: fairseq-generate failed, or left a sentence out.
    """
    inputs = state.canonical({**pair.decoding, "model": files.sha256(pair.model(model))})
    record = state.read(pair.run_dir, _stage(model))
    if record is not None and record.done and record.inputs == inputs:
        return
    translations = _translate(pair, model)
    files.write_lines(_hypothesis_file(pair, model), translations)
    found = score(translations, references(pair))
    state.write(pair.run_dir, _stage(model), state.Record(inputs, done=True, facts=found))


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


def _stage(model: str) -> str:
    return f"evaluate.{model}"


def _hypothesis_file(pair: Pair, model: str) -> Path:
    return pair.evaluate_dir / f"{model}.{pair.target_lang}"


def _translate(pair: Pair, model: str) -> list[str]:
    count = len(references(pair))
    command = commands.python_module("fairseq_cli.generate")
    # fairseq 0.12.2 needs the package to translate with torch 1.13 (ka_fairseq.compat).
    command += [str(pair.bin_dir), "--path", str(pair.model(model)), "--user-dir", str(USER_DIR)]
    command += ["--source-lang", pair.source_lang, "--target-lang", pair.target_lang]
    command += ["--gen-subset", "test", "--batch-size", str(pair.decoding["batch_size"])]
    # fairseq's default, 8, leaves out the last sentences where the batches do not divide by it.
    command += ["--required-batch-size-multiple", "1"]
    command += ["--beam", str(pair.decoding["beam"]), "--lenpen", str(pair.decoding["lenpen"])]
    command += ["--remove-bpe", str(pair.decoding["remove_bpe"])]
    if tokenizer := pair.decoding.get("tokenizer"):
        command += ["--tokenizer", tokenizer]  # takes tokenization back
    found: dict[int, str] = {}
    with bar(title=f"translating with {model}", total=count) as progress:

        def on_line(line: str) -> None:
            if line.startswith("D-"):
                number, _, text = line.removeprefix("D-").split("\t", 2)
                found[int(number)] = text
                progress.update()

        commands.run(command, pair.log(f"evaluate.{model}"), on_line)
    if missing := sorted(set(range(count)) - set(found)):
        raise PipelineError(
            f"{model} translated {len(found)} of {count} sentences; "
            f"the first one without a translation is line {missing[0] + 1} of the test set"
        )
    return [found[number] for number in range(count)]
