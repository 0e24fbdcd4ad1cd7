"""Translate binarized text with a trained model, through fairseq-generate."""

from __future__ import annotations

from pathlib import Path

from pipeline.engine import commands
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar
from pipeline.models.settings import USER_DIR, Pair


def translate(
    model: Path,
    data: Path,
    subset: str,
    *,
    count: int,
    pair: Pair,
    slot: Slot,
    lenpen: float,
    log: Path,
    title: str,
) -> list[str]:
    """Return a model's translations of a split, in order, without segmentation.

    Args:
        model: the checkpoint.
        data: the data-bin.
        subset: the split.
        count: the number of sentences in the split.
        pair: languages and beam.
        slot: the part of this machine that fairseq-generate may use.
        lenpen: the length penalty.
        log: the file for the output of fairseq-generate.
        title: the model's name in the progress bar and in errors.

    Raises:
        PipelineError: fairseq-generate failed, or a sentence has no translation.
    """
    found: dict[int, str] = {}
    with bar(title=f"translating with {title}", total=count) as progress:

        def on_line(line: str) -> None:
            if line.startswith("D-"):
                number, _, text = line.removeprefix("D-").split("\t", 2)
                found[int(number)] = text
                progress.update()

        commands.run(_command(model, data, subset, pair, lenpen), log, on_line, slot=slot)
    if missing := sorted(set(range(count)) - set(found)):
        raise PipelineError(
            f"{title} translated {len(found)} of {count} sentences; "
            f"the first one without a translation is line {missing[0] + 1} of the {subset} set"
        )
    return [found[number] for number in range(count)]


def _command(model: Path, data: Path, subset: str, pair: Pair, lenpen: float) -> list[str]:
    decoding = pair.decoding
    command = commands.fairseq_module("fairseq_cli.generate")
    # With this package fairseq reports a broken checkpoint in one line.
    command += [str(data), "--path", str(model), "--user-dir", str(USER_DIR)]
    command += ["--source-lang", pair.source_lang, "--target-lang", pair.target_lang]
    command += ["--gen-subset", subset, "--batch-size", str(decoding.batch_size)]
    # fairseq's default of 8 drops the last sentences if the number of batches does not divide by 8.
    command += ["--required-batch-size-multiple", "1"]
    # A worker process for batches is no faster, and leaves a socket among the temporary files.
    command += ["--num-workers", "0"]
    command += ["--beam", str(decoding.beam), "--lenpen", str(lenpen)]
    command += ["--remove-bpe", str(decoding.remove_bpe)]
    if decoding.tokenizer:
        command += ["--tokenizer", decoding.tokenizer]  # detokenizes
    return command
