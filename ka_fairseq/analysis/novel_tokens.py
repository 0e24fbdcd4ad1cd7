"""Fig. 4b: the number of tokens that enter the student's top k for the first time, per epoch."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ka_fairseq.analysis import options, plotting
from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run
from ka_fairseq.errors import UserError
from ka_fairseq.teacher.frozen import FrozenTeacher

SENTENCES, TOP_K, SEED = 2000, 16, 1
NOTHING = np.empty(0, dtype=np.int64)


def top_k_sets(
    corpus: Corpus, model: FrozenTeacher, sentences: np.ndarray, top_k: int, label: str = ""
) -> tuple[np.ndarray, float]:
    """Return the k most probable tokens at every target position of some sentences.

    Args:
        corpus: the split with the sentences.
        model: the student.
        sentences: indices of the sentences.
        top_k: k.
        label: the text of the progress bar.

    Returns:
        Token indices, int32, shape (positions, k), and the mean probability mass on the top k.
    """
    best = np.empty((corpus.count_positions(sentences), top_k), dtype=np.int32)
    mass = 0.0
    for chunk in corpus.walk([model], sentences, label):
        lprobs, tokens = chunk.lprobs[0].topk(top_k, dim=-1)
        best[chunk.rows.cpu().numpy()] = tokens.to(torch.int32).cpu().numpy()
        mass += lprobs.double().exp().sum().item()
    return best, mass / len(best)


def count_novel(best: np.ndarray, seen: np.ndarray) -> tuple[int, np.ndarray]:
    """Count the tokens in an epoch's top k that were in the top k of no earlier epoch.

    For epoch i, Σ_t |{y : y ∈ Top-k p_i(·|h_t), y ∉ Top-k p_j(·|h_t) for all j < i}| (Sun & Cross,
    §5.3). In the first epoch all tokens count.

    Args:
        best: the epoch's token indices, shape (positions, k); distinct at each position.
        seen: the second result for the previous epoch; :data:`NOTHING` for the first epoch.

    Returns:
        The count, and all pairs of position and token up to this epoch.
    """
    # A pair of position and token as one number; no vocabulary has 2^32 types.
    position = np.arange(len(best), dtype=np.int64)[:, np.newaxis] << 32
    novel = np.setdiff1d((position + best).ravel(), seen, assume_unique=True)
    return len(novel), np.concatenate([seen, novel])


def novel_tokens(
    corpus: Corpus,
    runs: Sequence[Run],
    sentences: int = SENTENCES,
    top_k: int = TOP_K,
    seed: int = SEED,
) -> pd.DataFrame:
    """Count the novel tokens of each run in each epoch, with the probability mass on the top k.

    Args:
        corpus: the split; the paper takes the training pairs.
        runs: the runs, one line each in the figure; all use the same sentences.
        sentences: the number of pairs to draw.
        top_k: k.
        seed: the random seed for the draw.

    Returns:
        Columns run, epoch, novel, novel_per_position, top_k_mass (in [0, 1]) and positions. In the
        first epoch of a run all tokens are novel, see :func:`count_novel`.

    Raises:
        UserError: ``top_k`` is not in [1, vocabulary], or ``sentences`` is less than 1.
    """
    types = len(corpus.task.target_dictionary)
    if not 1 <= top_k <= types:
        raise UserError(f"--top-k must lie between 1 and {types} (the vocabulary), not {top_k}")
    if sentences < 1:
        raise UserError(f"--sentences must be at least 1, not {sentences}")
    drawn = corpus.sample(sentences, seed)
    rows = []
    for run in runs:
        seen = NOTHING
        for epoch, file in run.checkpoints.items():
            label = f"{run.name}, epoch {epoch}"
            best, mass = top_k_sets(corpus, corpus.load(file), drawn, top_k, label)
            novel, seen = count_novel(best, seen)
            rows.append((run.name, epoch, novel, mass))
    frame = pd.DataFrame(rows, columns=["run", "epoch", "novel", "top_k_mass"])
    frame["positions"] = corpus.count_positions(drawn)
    frame.insert(3, "novel_per_position", frame.novel / frame.positions)
    return frame


def plot_novel_tokens(
    frame: pd.DataFrame,
    path: Path,
    top_k: int = TOP_K,
    styles: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Draw :func:`novel_tokens` without the first epoch, where all tokens are new.

    Args:
        frame: the counts.
        path: the output path, without a suffix.
        top_k: the k of the counts.
        styles: see :func:`.plotting.draw_epochs`.
    """
    with plotting.figure(path, plotting.FULL_PAGE, 3.6) as drawing:
        counts, mass = drawing.subplots(1, 2)
        later = frame[frame.epoch > frame.groupby("run").epoch.transform("min")]
        plotting.draw_epochs(counts, later, "novel", styles)
        counts.set_ylim(bottom=0)
        counts.set_ylabel(f"novel tokens in the top {top_k}")
        frame = frame.assign(percent=100 * frame.top_k_mass)
        plotting.draw_epochs(mass, frame, "percent", styles)
        mass.set_ylabel(f"probability on the top {top_k} (%)")
        plotting.legend_above(drawing)


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    runs = options.open_runs(args)
    corpus = options.open_corpus(args, like=runs[0].last)
    frame = novel_tokens(corpus, runs, args.sentences, args.top_k, args.seed)
    options.write_table(frame, args.out)
    plot_novel_tokens(frame, args.out, args.top_k)
    options.show(frame, args.out)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``novel-tokens``."""
    parser = options.add_command(
        commands,
        "novel-tokens",
        command,
        "Fig. 4b: tokens that are new in the student's top k, per epoch",
        "Count, per epoch, the tokens in the student's top k that were in the top k of no earlier "
        "epoch. The positions come from random sentence pairs. Also compute the probability mass "
        "on the top k. With --start, tokens in the pre-trained student's top k are not novel.",
    )
    parser.add_argument(
        "--sentences", type=int, default=SENTENCES, metavar="N", help="sentence pairs to draw"
    )
    parser.add_argument("--top-k", type=int, default=TOP_K, metavar="K", help="size of the top k")
    parser.add_argument("--seed", type=int, default=SEED, help="random seed for the draw")
    options.add_run_options(parser)
    options.add_corpus_options(parser, split="train")
