"""Measure a student's agreement with its teacher and with the reference, and its calibration."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor

from ka_fairseq.analysis import options, plotting
from ka_fairseq.analysis.forced import Chunk, Corpus
from ka_fairseq.analysis.runs import parse_named_paths
from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import backward_kl, forward_kl

BINS = 15
TEACHER = "teacher"
# The figure leaves out positions that fewer than this share of the sentences have.
SHARE_OF_SENTENCES = 0.1


class Agreement(NamedTuple):
    """Three tables. Each has the teacher as a run, compared with itself.

    Attributes:
        summary: run, teacher_agreement, accuracy (agreement with the reference), confidence (the
            mean probability of the best token), ece, forward_kl_bits, backward_kl_bits, positions.
        calibration: run, low, high (a bin's bounds), positions, confidence and accuracy (means;
            NaN in an empty bin).
        by_position: run, position (from 1), positions (the number of sentences that reach the
            position), forward_kl_bits and backward_kl_bits (means).
    """

    summary: pd.DataFrame
    calibration: pd.DataFrame
    by_position: pd.DataFrame


def bin_sums(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> np.ndarray:
    """Return the sums per bin that the calibration error needs. Sums of batches can be added.

    Bin b of M, counted from 0, holds confidences in (b/M, (b + 1)/M]. Bin 0 also holds 0.

    Args:
        confidence: the probability of the best token, shape (n,).
        correct: whether the best token is the reference's token, shape (n,).
        bins: M.

    Returns:
        Shape (bins, 3): count, Σ confidence, Σ correct.
    """
    bounds = np.linspace(0, 1, bins + 1)
    index = np.clip(np.searchsorted(bounds, confidence, side="left") - 1, 0, bins - 1)
    columns = (np.ones(len(index)), confidence, correct)
    return np.stack([np.bincount(index, column, bins) for column in columns], axis=1)


def expected_calibration_error(sums: np.ndarray) -> float:
    """Return ECE = Σ_b n_b/N · |accuracy_b − confidence_b|, over bins of equal width.

    Args:
        sums: the result of :func:`bin_sums`.

    Returns:
        The error, in [0, 1].
    """
    counts, confidence, correct = sums.T
    return float(np.abs(correct - confidence).sum() / counts.sum())


class _Tally:
    """Running sums of one run. Their size does not depend on the corpus."""

    def __init__(self, longest: int, bins: int) -> None:
        self.calibration = np.zeros((bins, 3))
        self.agreed = 0
        # For each position: count, Σ forward KL, Σ backward KL.
        self.by_position = np.zeros((longest, 3))

    def add(self, chunk: Chunk, lprobs: Tensor, teacher_lprobs: Tensor) -> None:
        confidence, best = lprobs.max(-1)
        self.agreed += int(best.eq(teacher_lprobs.argmax(-1)).sum())
        self.calibration += bin_sums(
            confidence.double().exp().cpu().numpy(),
            best.eq(chunk.targets).cpu().numpy(),
            len(self.calibration),
        )
        positions = chunk.positions.cpu().numpy()
        for column, values in enumerate(
            (
                torch.ones(len(positions)),
                forward_kl(lprobs, teacher_lprobs),
                backward_kl(lprobs, teacher_lprobs),
            )
        ):
            self.by_position[:, column] += np.bincount(
                positions, values.double().cpu().numpy(), len(self.by_position)
            )


def agreement(
    corpus: Corpus,
    learners: Mapping[str, Path],
    teacher_path: str,
    teacher_data: Path | None = None,
    bins: int = BINS,
) -> Agreement:
    """Compare students with their teacher and with the reference, token by token.

    All models see the reference's prefix. Forward KL is KL(teacher‖student), backward KL is
    KL(student‖teacher). Both are over the whole vocabulary, in bits per token.

    Args:
        corpus: the split.
        learners: the students' checkpoints by name.
        teacher_path: the teacher's checkpoints, separated by colons.
        teacher_data: see :meth:`Corpus.load`.
        bins: the number of bins of the calibration error.

    Returns:
        Three tables, see :class:`Agreement`.

    Raises:
        UserError: ``bins`` is less than 1, or a run has the name "teacher".
    """
    if bins < 1:
        raise UserError(f"--bins must be at least 1, not {bins}")
    if TEACHER in learners:
        raise UserError(f"--run {TEACHER}=…: the name is the teacher's; give another name")
    teacher = corpus.load(teacher_path, teacher_data)
    models = [teacher, *(corpus.load(path) for path in learners.values())]
    sentences = corpus.all_sentences()
    longest = int(corpus.lengths[sentences].max())
    tallies = {name: _Tally(longest, bins) for name in (TEACHER, *learners)}
    for chunk in corpus.walk(models, sentences, "agreement"):
        for tally, lprobs in zip(tallies.values(), chunk.lprobs, strict=True):
            tally.add(chunk, lprobs, chunk.lprobs[0])
    return Agreement(
        pd.DataFrame([_summary(name, tally) for name, tally in tallies.items()]),
        pd.concat([_calibration(*item) for item in tallies.items()], ignore_index=True),
        pd.concat([_by_position(*item) for item in tallies.items()], ignore_index=True),
    )


def _summary(name: str, tally: _Tally) -> dict[str, object]:
    positions, forward, backward = tally.by_position.sum(0)
    _, confidence, correct = tally.calibration.sum(0)
    return {
        "run": name,
        "teacher_agreement": tally.agreed / positions,
        "accuracy": correct / positions,
        "confidence": confidence / positions,
        "ece": expected_calibration_error(tally.calibration),
        "forward_kl_bits": forward / positions / math.log(2),
        "backward_kl_bits": backward / positions / math.log(2),
        "positions": int(positions),
    }


def _calibration(name: str, tally: _Tally) -> pd.DataFrame:
    counts, confidence, correct = tally.calibration.T
    bounds = np.linspace(0, 1, len(counts) + 1)
    some = np.where(counts > 0, counts, np.nan)
    columns = {"run": name, "low": bounds[:-1], "high": bounds[1:], "positions": counts.astype(int)}
    return pd.DataFrame(columns | {"confidence": confidence / some, "accuracy": correct / some})


def _by_position(name: str, tally: _Tally) -> pd.DataFrame:
    counts, forward, backward = tally.by_position.T
    some = np.where(counts > 0, counts, np.nan) * math.log(2)
    columns = {"run": name, "position": np.arange(1, len(counts) + 1)}
    columns |= {"positions": counts.astype(int)}
    return pd.DataFrame(
        columns | {"forward_kl_bits": forward / some, "backward_kl_bits": backward / some}
    )


def plot_agreement(tables: Agreement, path: Path) -> None:
    """Draw :func:`agreement`: agreement, calibration, and both KLs by target position."""
    summary = tables.summary
    styles = plotting.series_styles(summary.run[summary.run.ne(TEACHER)])
    styles |= {TEACHER: {"color": plotting.BLACK, "marker": "", "linestyle": "--"}}
    with plotting.figure(path, plotting.FULL_PAGE, 6.6) as drawing:
        (agreed, calibrated), kls = drawing.subplots(2, 2)
        _draw_bars(agreed, summary, styles)
        for name, bins in tables.calibration.groupby("run", sort=False):
            calibrated.plot(bins.confidence, bins.accuracy, label=name, **styles[name])
        calibrated.plot([0, 1], [0, 1], color=plotting.GREY, linewidth=1, label="calibrated")
        calibrated.set(xlabel="confidence", ylabel="accuracy", xlim=(0, 1), ylim=(0, 1))
        learners = tables.by_position[tables.by_position.run.ne(TEACHER)]
        enough = SHARE_OF_SENTENCES * learners.positions.max()
        for axes, (column, title) in zip(
            kls,
            {
                "forward_kl_bits": "forward KL(teacher‖learner)",
                "backward_kl_bits": "backward KL(learner‖teacher)",
            }.items(),
            strict=True,
        ):
            for name, line in learners[learners.positions >= enough].groupby("run", sort=False):
                axes.plot(line.position, line[column], label=name, **styles[name])
            axes.set(xlabel="target position", ylabel="bits per token", title=title)
            axes.set_ylim(bottom=0)
        kls[0].sharey(kls[1])
        plotting.legend_above(drawing, columns=5)


def _draw_bars(axes: Axes, summary: pd.DataFrame, styles: Mapping[str, Mapping]) -> None:
    """Draw the percentages of each run as bars, side by side, with their values above."""
    columns = {
        "teacher_agreement": "agrees with\nthe teacher",
        "accuracy": "agrees with\nthe reference",
        "ece": "calibration\nerror (ECE)",
    }
    width = 0.8 / len(summary)
    for index, row in summary.iterrows():
        values = [100 * row[column] for column in columns]
        if row.run == TEACHER:
            values[0] = math.nan  # 100 %, by definition
        places = np.arange(len(columns)) + (index - (len(summary) - 1) / 2) * width
        bars = axes.bar(places, values, 0.92 * width, color=styles[row.run]["color"])
        labels = ["" if math.isnan(value) else f"{value:.0f}" for value in values]
        axes.bar_label(bars, labels, fontsize=8.5, padding=1)
    axes.set_xticks(range(len(columns)), columns.values())
    axes.set_ylabel("% of tokens")
    axes.grid(axis="x", visible=False)
    axes.margins(y=0.12)


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    learners = {
        name: path / "checkpoint_best.pt" if path.is_dir() else path
        for name, path in parse_named_paths(args.run).items()
    }
    corpus = options.open_corpus(args, like=next(iter(learners.values())))
    tables = agreement(corpus, learners, args.teacher_path, args.teacher_data, args.bins)
    options.write_table(tables.summary, args.out)
    options.write_table(tables.calibration, args.out, "calibration")
    options.write_table(tables.by_position, args.out, "by_position")
    plot_agreement(tables, args.out)
    options.show(tables.summary, args.out)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``agreement``."""
    parser = options.add_command(
        commands,
        "agreement",
        command,
        "agreement with the teacher and the reference, calibration, both KLs",
        "Compute how often the best token of each run is the teacher's token or the reference's "
        "token. Compute the expected calibration error, and both KLs by target position. Also "
        "write PATH_calibration.csv and PATH_by_position.csv.",
    )
    parser.add_argument(
        "--run",
        action="append",
        required=True,
        metavar="NAME=PATH",
        help="a run's name, and its checkpoint or its --save-dir with checkpoint_best.pt; give the "
        "option once for each run",
    )
    parser.add_argument("--bins", type=int, default=BINS, help="number of calibration bins")
    options.add_teacher_options(parser, required=True)
    options.add_corpus_options(parser)
