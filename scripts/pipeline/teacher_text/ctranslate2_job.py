"""``python -m pipeline.teacher_text.ctranslate2_job JOB.json``: CTranslate2 on some shards.

A process of its own, so that the pipeline can end it at any time.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import files, segmentation
from pipeline.teacher_text import shards
from pipeline.teacher_text.recipe import Recipe
from pipeline.teacher_text.shards import Candidate, Shard
from pipeline.teacher_text.source import Sentences, sentences

SENTENCES, WRITTEN = "sentences", "written"
"""The first word of a line that it prints: how many more are translated; a shard's file."""


def write(
    path: Path,
    model: Path,
    recipe: Recipe,
    segmented: Mapping[str, Any],
    work: Sequence[tuple[Path, Sequence[Shard]]],
    threads: int | None,
) -> None:
    """Write down what a process is to do.

    Args:
        path: of the JSON file.
        model: CTranslate2's folder.
        recipe: how to translate.
        segmented: the pair's settings of its segmentation.
        work: files of subwords, with the shards to translate of each.
        threads: how many; None: CTranslate2 decides.
    """
    job = {
        "model": str(model),
        "recipe": dataclasses.asdict(dataclasses.replace(recipe, filters=None)),
        "segmentation": dict(segmented),
        "threads": threads or 0,
        "work": [
            [str(subwords), [[str(shard.path), shard.first, shard.last] for shard in wanted]]
            for subwords, wanted in work
        ],
    }
    files.write_json(path, job)


def main(path: Path) -> None:
    """Do what the file says."""
    import ctranslate2

    job = json.loads(path.read_text(encoding="utf-8"))
    recipe = Recipe(**job["recipe"])
    translator = ctranslate2.Translator(
        job["model"],
        device="cuda" if ctranslate2.get_cuda_device_count() else "cpu",
        inter_threads=1,
        intra_threads=job["threads"],
    )
    for subwords, rows in job["work"]:
        wanted = [Shard(Path(target), first, last) for target, first, last in rows]
        for shard, found in sentences(Path(subwords), wanted, recipe.max_length):
            shards.write(shard, _translate(translator, found, recipe, job["segmentation"]))
            print(WRITTEN, shard.path, flush=True)


def _translate(
    translator: Any, found: Sentences, recipe: Recipe, segmented: Mapping[str, Any]
) -> dict[int, list[Candidate]]:
    translations: dict[int, list[Candidate]] = {}
    for lines in batches(found, recipe.max_tokens):
        results = translator.translate_batch(
            [found[line] for line in lines],
            beam_size=recipe.beam,
            num_hypotheses=recipe.n_best,
            length_penalty=recipe.lenpen,
            max_input_length=0,  # none is cut off: those that are too long are not here
            max_decoding_length=recipe.longest(max(len(found[line]) for line in lines)),
            return_scores=True,
        )
        for line, result in zip(lines, results, strict=True):
            translations[line] = [
                Candidate(score, segmentation.join(" ".join(subwords), segmented))
                for score, subwords in zip(result.scores, result.hypotheses, strict=True)
            ]
        print(SENTENCES, len(lines), flush=True)
    return translations


def batches(found: Sentences, max_tokens: int) -> Iterator[list[int]]:
    """Yield lines of sentences of about one length, as many as make `max_tokens` with padding."""
    batch: list[int] = []
    for line in sorted(found, key=lambda line: (len(found[line]), line)):
        if batch and (len(batch) + 1) * len(found[line]) > max_tokens:
            yield batch
            batch = []
        batch.append(line)
    if batch:
        yield batch


if __name__ == "__main__":
    main(Path(sys.argv[1]))
