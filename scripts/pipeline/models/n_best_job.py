"""``python -m pipeline.models.n_best_job JOB.json``: the n best of a text by CTranslate2.

A process of its own, so that the pipeline can end it at any time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 200
"""Subwords of an answer, or twice those of its source: as in the folder's own translator."""


@dataclass(frozen=True)
class Job:
    """What to translate.

    Attributes:
        model: CTranslate2's folder.
        source: a file of subwords, a sentence a line.
        target: the file for the answers: a list of hypotheses for each line, in JSON.
        beam: how many hypotheses are followed, and kept.
        threads: of the CPU.
    """

    model: str
    source: str
    target: str
    beam: int
    threads: int


def main(path: Path) -> None:
    """Do what a file describes, a `Job` in JSON."""
    job = Job(**json.loads(path.read_text(encoding="utf-8")))
    lines = [line.split() for line in Path(job.source).read_text("utf-8").split("\n")[:-1]]
    found = n_best(job, lines)
    Path(job.target).write_text("".join(f"{json.dumps(line)}\n" for line in found), "utf-8")


def n_best(job: Job, lines: Sequence[Sequence[str]]) -> list[list[dict[str, Any]]]:
    """Return the hypotheses of each line that is not empty: `log_probability`, `subwords`."""
    import ctranslate2

    translator = ctranslate2.Translator(job.model, inter_threads=1, intra_threads=job.threads)
    places = [place for place, line in enumerate(lines) if line]
    results = translator.translate_batch(
        [lines[place] for place in places],
        beam_size=job.beam,
        num_hypotheses=job.beam,
        length_penalty=1,  # with 0 the search would end earlier
        max_input_length=0,
        max_decoding_length=max(LONGEST, 2 * max(map(len, lines), default=0)),
        max_batch_size=512,  # with more a CPU is slower, as in ka_fairseq.translate
        batch_type="tokens",
        return_scores=True,
    )
    found: list[list[dict[str, Any]]] = [[] for _ in lines]
    for place, result in zip(places, results, strict=True):
        found[place] = [
            # The score is divided by the length, the end included.
            {"log_probability": score * (len(subwords) + 1), "subwords": subwords}
            for score, subwords in zip(result.scores, result.hypotheses, strict=True)
        ]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
