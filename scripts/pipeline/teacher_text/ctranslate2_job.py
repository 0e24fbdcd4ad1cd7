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
from pipeline.teacher_text.recipe import Recipe, Sampling
from pipeline.teacher_text.shards import Candidate, Shard
from pipeline.teacher_text.source import Sentences, sentences

SENTENCES, WRITTEN, NO_GPU = "sentences", "written", "no-gpu"
"""The first word of a line that it prints: how many more are translated; a shard's file; why a GPU
is not used."""


def write(
    path: Path,
    model: Path,
    recipe: Recipe,
    segmented: Mapping[str, Any],
    work: Sequence[tuple[Path, Sequence[Shard]]],
    threads: int | None,
    *,
    sampled: bool,
) -> None:
    """Write down what a process is to do.

    Args:
        path: of the JSON file.
        model: CTranslate2's folder.
        recipe: how to translate.
        segmented: the pair's settings of its segmentation.
        work: files of subwords, with the shards to translate of each.
        threads: how many; None: CTranslate2 decides.
        sampled: whether samples are drawn instead of the n best searched.
    """
    job = {
        "model": str(model),
        "recipe": dataclasses.asdict(dataclasses.replace(recipe, filters=None)),
        "segmentation": dict(segmented),
        "threads": threads or 0,
        "sampled": sampled,
        "work": [
            [str(subwords), [[str(shard.path), shard.first, shard.last] for shard in wanted]]
            for subwords, wanted in work
        ],
    }
    files.write_json(path, job)


def main(path: Path) -> None:
    """Do what the file says."""
    job = json.loads(path.read_text(encoding="utf-8"))
    recipe = Recipe(**{**job["recipe"], "sampling": Sampling(**job["recipe"]["sampling"])})
    translator = None if job["sampled"] else load(job)
    for subwords, rows in job["work"]:
        wanted = [Shard(Path(target), first, last) for target, first, last in rows]
        for shard, found in sentences(Path(subwords), wanted, recipe.max_length):
            if job["sampled"]:
                translator = load(job, recipe.sampling.seed + shard.number)
            how = _sampling(recipe) if job["sampled"] else _search(recipe)
            shards.write(shard, _translate(translator, found, recipe, how, job["segmentation"]))
            print(WRITTEN, shard.path, flush=True)


def load(job: Mapping[str, Any], seed: int | None = None) -> Any:
    """Return the translator, on the GPU where there is one that it can use.

    Its threads take the seed when they draw first, and never again: a seed is for a translator.
    """
    import ctranslate2

    def on(device: str) -> Any:
        if seed is not None:
            ctranslate2.set_random_seed(seed)
        return ctranslate2.Translator(
            job["model"], device=device, inter_threads=1, intra_threads=job["threads"]
        )

    if not ctranslate2.get_cuda_device_count():
        return on("cpu")
    try:
        translator = on("cuda")
        # cuBLAS, of the one version that CTranslate2 was built for, is loaded here and not before.
        translator.translate_batch([[""]], max_decoding_length=1)
    except RuntimeError as error:
        print(NO_GPU, " ".join(str(error).split()), flush=True)
        return on("cpu")
    return translator


def _search(recipe: Recipe) -> dict[str, Any]:
    return {
        "beam_size": recipe.beam,
        "num_hypotheses": recipe.n_best,
        "length_penalty": recipe.lenpen,
    }


def _sampling(recipe: Recipe) -> dict[str, Any]:
    draw = recipe.sampling
    return {
        "beam_size": 1,
        "num_hypotheses": draw.samples,
        "sampling_topk": 0,  # all; 1 by default
        "sampling_topp": draw.top_p,
        "sampling_temperature": draw.temperature,
    }


def _translate(
    translator: Any,
    found: Sentences,
    recipe: Recipe,
    how: Mapping[str, Any],
    segmented: Mapping[str, Any],
) -> dict[int, list[Candidate]]:
    translations: dict[int, list[Candidate]] = {}
    for lines in batches(found, recipe.max_tokens):
        results = translator.translate_batch(
            [found[line] for line in lines],
            **how,
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
