"""Fig. 5: the entropy of the student's next-token distribution, per epoch."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ka_fairseq.analysis import options, plotting
from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run
from ka_fairseq.teacher.frozen import FrozenTeacher

TEACHER = "teacher"


def mean_entropy(corpus: Corpus, model: FrozenTeacher, label: str = "") -> float:
    """Return the mean over all target positions t of H(p(·|y_<t, x)) = −Σ_y p·log2 p, in bits."""
    total, positions = 0.0, 0
    for chunk in corpus.walk([model], corpus.all_sentences(), label):
        total += chunk.distributions[0].entropy.double().sum().item()
        positions += len(chunk.rows)
    return total / positions / math.log(2)


def entropy(
    corpus: Corpus,
    runs: Sequence[Run],
    teacher_path: str | None = None,
    teacher_data: Path | None = None,
) -> pd.DataFrame:
    """Compute each run's mean entropy after each epoch, and the teacher's mean entropy.

    Args:
        corpus: the split.
        runs: the runs, one line each in the figure.
        teacher_path: the teacher's checkpoints, separated by colons; None leaves the teacher out.
        teacher_data: see :meth:`Corpus.load`.

    Returns:
        Columns run, epoch, entropy_bits. The teacher is the run "teacher", without an epoch.
    """
    rows = [
        (run.name, epoch, mean_entropy(corpus, corpus.load(file), f"{run.name}, epoch {epoch}"))
        for run in runs
        for epoch, file in run.checkpoints.items()
    ]
    if teacher_path:
        teacher = corpus.load(teacher_path, teacher_data)
        rows.append((TEACHER, None, mean_entropy(corpus, teacher, TEACHER)))
    frame = pd.DataFrame(rows, columns=["run", "epoch", "entropy_bits"])
    return frame.astype({"epoch": "Int64"})


def plot_entropy(
    frame: pd.DataFrame, path: Path, styles: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Draw :func:`entropy`: a line for each run, and a dashed line for the teacher.

    Args:
        frame: the entropies.
        path: the output path, without a suffix.
        styles: see :func:`.plotting.draw_epochs`.
    """
    with plotting.figure(path) as drawing:
        axes = drawing.subplots()
        learners = frame[frame.epoch.notna()]
        plotting.draw_epochs(axes, learners, "entropy_bits", styles)
        for value in frame[frame.epoch.isna()].entropy_bits:
            axes.axhline(value, color=plotting.BLACK, linestyle="--", label=TEACHER)
        axes.set_ylabel("mean entropy (bits per token)")
        plotting.legend_above(drawing)


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    runs = options.open_runs(args)
    corpus = options.open_corpus(args, like=runs[0].last)
    frame = entropy(corpus, runs, args.teacher_path, args.teacher_data)
    options.write_table(frame, args.out)
    plot_entropy(frame, args.out)
    options.show(frame, args.out)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``entropy``."""
    parser = options.add_command(
        commands,
        "entropy",
        command,
        "Fig. 5: the student's entropy per epoch",
        "Compute the mean entropy of the next-token distribution over a split, teacher-forced, for "
        "every epoch checkpoint of every run. In the paper the entropy rises for KA and falls for "
        "KD.",
    )
    options.add_run_options(parser)
    options.add_teacher_options(parser, required=False)
    options.add_corpus_options(parser)
