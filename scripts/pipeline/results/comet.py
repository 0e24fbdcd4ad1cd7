"""Score a model's translations with COMET, through Unbabel's comet-score.

COMET is an option of a comparison. The option needs comet-score and a model. unbabel-comet requires
an older numpy than this project, so comet-score is a command of another environment.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.engine import commands, files
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar
from pipeline.engine.stage import Stage
from pipeline.models.settings import Pair
from pipeline.results import evaluate
from pipeline.results.evaluation_sets import EvaluationSet

COMMAND = "comet-score"
METRIC = "comet"
CHECKPOINT = ".ckpt"
# Models give scores from about 0 to 1; tables show all metrics in percent.
_PERCENT = 100

# The progress bar of comet-score: finished batches, and all batches.
_PROGRESS = re.compile(r"Predicting.* (\d+)/(\d+) \[")


def check(model: str) -> None:
    """Check that comet-score and the model exist, as far as this can be known beforehand.

    Args:
        model: a checkpoint of COMET (``….ckpt``), or the name of a model that comet-score fetches.

    Raises:
        PipelineError: comet-score, the checkpoint or its hparams.yaml is missing.
    """
    _command()
    if not model.endswith(CHECKPOINT):
        return
    path = Path(model)
    if not path.is_file():
        raise PipelineError(f"--comet {model}: there is no such file")
    if not (path.resolve().parent.parent / "hparams.yaml").is_file():
        raise PipelineError(
            f"--comet {model}: there is no hparams.yaml in the folder above the checkpoint's "
            "folder; COMET needs it"
        )


def name(training: str, which: EvaluationSet) -> str:
    """Return the name of a model's stage."""
    return f"{METRIC}.{evaluate.name(training, which).removeprefix('evaluate.')}"


def stage(pair: Pair, training: str, which: EvaluationSet, model: str) -> Stage:
    """Return the stage that scores a trained model's translations.

    Args:
        pair: the language pair.
        training: the trained model.
        which: the test set.
        model: COMET's model, as in `check`.
    """
    return Stage(
        name(training, which),
        lambda slot: score(pair, slot, training, which, model),
        lambda slot: _inputs(pair, training, which, model),
        needs=(evaluate.name(training, which),),
        cheap=True,
    )


def score(
    pair: Pair, slot: Slot, training: str, which: EvaluationSet, model: str
) -> dict[str, Any]:
    """Score a model's translations of a test set, sentence by sentence.

    Returns:
        COMET of the test set, the mean over the sentences, in percent.

    Raises:
        PipelineError: comet-score failed, or a sentence has no score.
    """
    path = _segments_file(pair, training, which)
    with files.written_whole(path) as output:
        texts = (which.source(pair), which.hypotheses(pair, training), which.reference(pair))
        source, translations, reference = (str(text.resolve()) for text in texts)
        command = [_command(), "--model", model, "--gpus", str(min(slot.visible, 1))]
        command += ["--sources", source, "--translations", translations, "--references", reference]
        command += ["--only_system", "--to_json", str(output.resolve())]
        _run(command, pair, slot, name(training, which))
        (rows,) = files.read_json(output).values()
        segments = [row["COMET"] for row in rows]
        count = len(evaluate.references(pair, which))
        if len(segments) != count:  # comet-score stops at the end of the shortest file
            raise PipelineError(f"{COMMAND} scored {len(segments)} of {count} sentences")
        files.write_json(output, segments)
    return {METRIC: _PERCENT * statistics.fmean(segments)}


def counts(pair: Pair, training: str, which: EvaluationSet) -> np.ndarray:
    """Return the numbers per sentence from which COMET of any set of sentences follows.

    Returns:
        (sentences, 2): the score of each sentence, and 1.
    """
    segments = np.array(files.read_json(_segments_file(pair, training, which)))
    return np.stack([segments, np.ones_like(segments)], axis=1)


def of_sums(sums: np.ndarray) -> np.ndarray:
    """Return COMET in percent, (...), from sums (..., 2) of `counts` over sentences."""
    return _PERCENT * sums[..., 0] / sums[..., 1]


def signature(model: str) -> str:
    """Return the signature that tables show for COMET."""
    return f"{model}, × {_PERCENT}"


def _run(command: list[str], pair: Pair, slot: Slot, name: str) -> None:
    with bar(title=name) as progress:

        def on_line(line: str) -> None:
            if found := _PROGRESS.search(line):
                progress.total = int(found[2])
                progress.update(int(found[1]) - progress.n)

        commands.run(command, pair.files.log(name), on_line, slot=slot)


def _segments_file(pair: Pair, training: str, which: EvaluationSet) -> Path:
    translations = which.hypotheses(pair, training)
    return translations.with_name(f"{translations.name}.{METRIC}.json")


def _inputs(pair: Pair, training: str, which: EvaluationSet, model: str) -> dict[str, Any]:
    named = _hash(Path(model)) if model.endswith(CHECKPOINT) else model
    texts = which.source(pair), which.hypotheses(pair, training), which.reference(pair)
    return {"model": named, "texts": files.sha256_of(texts)}


@functools.cache
def _hash(checkpoint: Path) -> str:
    """Return the hash of a checkpoint; computed once, as a checkpoint has gigabytes."""
    return files.sha256(checkpoint)


def _command() -> str:
    """Return the path of comet-score: beside this Python, or in PATH."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    found = shutil.which(COMMAND, path=os.pathsep.join(places))
    if found is None:
        raise PipelineError(
            f"--comet needs {COMMAND}: install unbabel-comet into a separate environment "
            '(python3 -m venv comet && comet/bin/pip install unbabel-comet "setuptools<81") and '
            'put its bin folder at the end of PATH (PATH="$PATH:$PWD/comet/bin")'
        )
    return found
