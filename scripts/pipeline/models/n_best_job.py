"""``python -m pipeline.models.n_best_job JOB.json``: search n-best lists with CTranslate2.

The search is a process of its own, so that the pipeline can end it at any time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LONGEST = 200
"""The most subwords of a translation; more for long sources, as in the exported translator."""


@dataclass(frozen=True)
class Job:
    """A text to translate, and how.

    Attributes:
        model: CTranslate2's folder.
        source: a file of subwords, one sentence per line.
        target: the file to write: for each line a list of hypotheses, in JSON.
        beam: the number of hypotheses that the search follows and keeps.
        threads: threads of the CPU.
    """

    model: str
    source: str
    target: str
    beam: int
    threads: int


def main(path: Path) -> None:
    """Run the `Job` that a JSON file describes."""
    job = Job(**json.loads(path.read_text(encoding="utf-8")))
    lines = [line.split() for line in Path(job.source).read_text("utf-8").split("\n")[:-1]]
    found = n_best(job, lines)
    Path(job.target).write_text("".join(f"{json.dumps(line)}\n" for line in found), "utf-8")


def n_best(job: Job, lines: Sequence[Sequence[str]]) -> list[list[dict[str, Any]]]:
    """Return each line's hypotheses: `log_probability`, `subwords`. Empty lines have none."""
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
        max_batch_size=512,  # larger batches are slower on a CPU; as in ka_fairseq.translate
        batch_type="tokens",
        return_scores=True,
    )
    found: list[list[dict[str, Any]]] = [[] for _ in lines]
    for place, result in zip(places, results, strict=True):
        found[place] = [
            # CTranslate2 has divided the score by the length, with the end of the sentence.
            {"log_probability": score * (len(subwords) + 1), "subwords": subwords}
            for score, subwords in zip(result.scores, result.hypotheses, strict=True)
        ]
    return found


if __name__ == "__main__":
    main(Path(sys.argv[1]))
