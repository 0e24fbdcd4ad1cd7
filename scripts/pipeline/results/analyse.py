"""Analyse with `ka_fairseq.analysis` what the fine-tunings changed besides the scores."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ka_fairseq.analysis import agreement, entropy, novel_tokens, top_tokens
from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run, find_run
from pipeline.engine import files, parallel, state
from pipeline.engine.progress import bar
from pipeline.engine.stage import Stage
from pipeline.models.settings import Pair
from pipeline.results import plots

# The models whose best tokens are listed side by side, as in the paper's Table 3.
COMPARED = ("kd", "ka")
EXAMPLES = 3
# The paper takes 2,000 pairs. 500 pairs show the same in a quarter of the time.
# `python -m ka_fairseq.analysis novel-tokens` takes any number of pairs.
NOVEL_TOKENS = {"sentences": 500, "top_k": 16}
# Below this number of validation sentences a part takes no longer than the start of a process.
FEW = 200


@dataclass(frozen=True)
class Analysis:
    """The folder of the figures, and the numbers behind the figures.

    Attributes:
        folder: the folder with entropy.svg, novel_tokens.svg and their CSV files.
        entropy: see `ka_fairseq.analysis.entropy.entropy`.
        novel: see `ka_fairseq.analysis.novel_tokens.novel_tokens`.
        agreement: the summary of `ka_fairseq.analysis.agreement.agreement`.
        examples: source, target and the runs' best tokens by epoch, for each place.
    """

    folder: Path
    entropy: pd.DataFrame
    novel: pd.DataFrame
    agreement: pd.DataFrame
    examples: list[dict[str, Any]]


def analyse(pair: Pair) -> Analysis | None:
    """Analyse the finished fine-tunings of the student, unless the analysis is up to date.

    Fine-tunings without a checkpoint of an epoch are left out. max_update, for example, may end a
    training in the first epoch.

    Returns:
        None if the teacher, the student or all fine-tunings are missing.
    """
    bases = ("teacher", "learner")
    trained = {
        name
        for name in pair.titles
        if state.is_done(pair.files.run_dir, name) and pair.files.best_checkpoint(name).exists()
    }
    done = {
        model.name: model.title
        for model in pair.models
        if model.start == "learner"
        and model.name in trained
        and any(pair.files.model_dir(model.name).glob("checkpoint[0-9]*.pt"))
    }
    if not done or not trained.issuperset(bases):
        return None
    logging.getLogger().setLevel(logging.WARNING)  # fairseq sets it to DEBUG when imported
    folder = pair.files.run_dir / "analysis"
    models = {name: state.fingerprint(pair.files.run_dir, name) for name in (*bases, *done)}
    colours = {model.name: model.colour for model in pair.models if model.name in done}
    Stage(
        "analysis",
        lambda slot: _compute(pair, done, folder),
        lambda slot: {**NOVEL_TOKENS, "names": done, "colours": colours} | models,
        cheap=True,
    ).execute(pair.files)
    return Analysis(
        folder,
        *(pd.read_csv(folder / f"{name}.csv") for name in ("entropy", "novel_tokens", "agreement")),
        json.loads((folder / "examples.json").read_text(encoding="utf-8")),
    )


@dataclass(frozen=True)
class _Work:
    """The inputs and the output folder of the analysis.

    Attributes:
        folder: the output folder.
        bin_dir: the binarized text.
        languages: the source and target language.
        learner: the checkpoint that the runs start from.
        teacher: the teacher's checkpoint.
        runs: the run of each model.
        learners: the checkpoints to compare with the teacher, by their names in figures.
        styles: the line styles, by the same names.
        log: the file for the output of the analysis.
    """

    folder: Path
    bin_dir: Path
    languages: tuple[str, str]
    learner: Path
    teacher: str
    runs: dict[str, Run]
    learners: dict[str, Path]
    styles: dict[str, dict[str, Any]]
    log: Path

    def corpus(self, split: str) -> Corpus:
        return Corpus.open(self.bin_dir, split, self.learner, self.languages)


_Part = tuple[Callable[[_Work], None], _Work]


def _compute(pair: Pair, names: dict[str, str], target: Path) -> dict[str, Any]:
    """Make all parts of the analysis, several at a time."""
    learner = pair.files.best_checkpoint("learner")
    with files.written_whole(target) as folder:
        folder.mkdir()
        work = _Work(
            folder,
            pair.files.bin_dir,
            pair.languages,
            learner,
            str(pair.files.best_checkpoint("teacher")),
            {name: find_run(names[name], pair.files.model_dir(name), learner) for name in names},
            {
                "learner": learner,
                **{names[name]: pair.files.best_checkpoint(name) for name in names},
            },
            plots.styles(pair.models),
            pair.files.log("analysis"),
        )
        parts = [(part, work) for part in (_entropy, _novel_tokens, _agreement, _places)]
        validated = files.read_lines(pair.files.text_dir / f"valid.{pair.languages[0]}")
        for _ in bar(
            _made(parts, processes_for(len(parts), len(validated))),
            title="analysis",
            total=len(parts),
            unit="part",
        ):
            pass
    return {}


def _made(parts: list[_Part], processes: int) -> Iterator[None]:
    """Make the parts in this process one by one, or in several processes."""
    if processes == 1:
        return map(_make, parts)
    threads = parallel.cores() // processes
    return parallel.ordered_map(
        _make, parts, initializer=_set_up, initargs=(threads,), processes=processes, fresh=True
    )


def processes_for(parts: int, validated: int) -> int:
    """Return the number of processes: one for each part, at most the number of cores.

    No other stage runs beside the analysis. The number is 1 on a GPU, as each process holds the
    teacher and several students in memory. The number is 1 for a small validation set, too.
    """
    if torch.cuda.is_available() or validated < FEW:
        return 1
    return min(parts, parallel.cores())


def _set_up(threads: int) -> None:
    torch.set_num_threads(threads)
    logging.getLogger().setLevel(logging.WARNING)  # as above


def _make(part: _Part) -> None:
    """Make a part, and append its messages to the log of the stage."""
    function, work = part
    work.log.parent.mkdir(parents=True, exist_ok=True)
    with work.log.open("a", encoding="utf-8") as log, contextlib.redirect_stderr(log):
        function(work)


def _entropy(work: _Work) -> None:
    frame = entropy.entropy(work.corpus("valid"), list(work.runs.values()), work.teacher)
    _keep(frame, work.folder / "entropy")
    entropy.plot_entropy(frame, work.folder / "entropy", work.styles)


def _novel_tokens(work: _Work) -> None:
    runs = list(work.runs.values())
    frame = novel_tokens.novel_tokens(work.corpus("train"), runs, **NOVEL_TOKENS)
    path = work.folder / "novel_tokens"
    _keep(frame, path)
    novel_tokens.plot_novel_tokens(frame, path, NOVEL_TOKENS["top_k"], work.styles)


def _agreement(work: _Work) -> None:
    tables = agreement.agreement(work.corpus("valid"), work.learners, work.teacher)
    _keep(tables.summary, work.folder / "agreement")


def _places(work: _Work) -> None:
    compared = [work.runs[name] for name in COMPARED if name in work.runs]
    files.write_json(work.folder / "examples.json", _examples(work.corpus("valid"), compared))


def _keep(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(f"{path}.csv", index=False, float_format="%.8g")


def _examples(corpus: Corpus, runs: list[Run]) -> list[dict[str, Any]]:
    """Return the places where the runs differ most, with the runs' best tokens by epoch."""
    if len(runs) < 2:
        return []
    found = top_tokens.find_places(corpus, runs, EXAMPLES)
    examples = []
    for sentence, position in zip(found.sentence, found.position, strict=True):
        place = top_tokens.describe_place(corpus, sentence, position)
        shown = [top_tokens.spread(run, top_tokens.EPOCHS) for run in runs]
        frame = top_tokens.top_tokens(corpus, shown, sentence, position)
        lists = [
            {
                "run": run,
                "epoch": int(epoch),
                "tokens": rows[["token", "only_here"]].values.tolist(),
            }
            for (run, epoch), rows in frame.groupby(["run", "epoch"], sort=False)
        ]
        examples.append({"source": place.source, "target": place.target, "lists": lists})
    return examples
