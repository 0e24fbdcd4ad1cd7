"""Table 3: the student's best tokens at one position, per epoch, for each run."""

from __future__ import annotations

import argparse
import heapq
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from fairseq.data import Dictionary
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from tabulate import tabulate
from torch import Tensor

from ka_fairseq import task_traits
from ka_fairseq.analysis import options, plotting
from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.runs import Run, spread
from ka_fairseq.errors import UserError

TOP_K, EPOCHS = 10, 6
WORD_START = "▁"
MARKDOWN_SIGNS = re.compile(r"([\\`*_|<>\[\]])")


class Place(NamedTuple):
    """A target position.

    Attributes:
        sentence: index of the sentence in the split, as 12 in fairseq-generate's S-12.
        position: index of the target token, from 0.
        source: the source sentence in readable subwords.
        target: the reference in readable subwords, with the token at the position in brackets.
    """

    sentence: int
    position: int
    source: str
    target: str


def readable(symbols: Iterable[str], dictionary: Dictionary) -> list[str]:
    """Return subwords in a readable form.

    sentencepiece marks the start of a word with ▁. So "▁look" becomes "look", a continuation "er"
    becomes "+er", and "▁" alone becomes "_". Symbols of other dictionaries stay unchanged.
    """
    special = set(dictionary.symbols[: dictionary.nspecial])
    if not any(symbol.startswith(WORD_START) for symbol in dictionary.symbols):
        return list(symbols)
    return [
        symbol
        if symbol in special
        else (symbol[len(WORD_START) :] or "_")
        if symbol.startswith(WORD_START)
        else f"+{symbol}"
        for symbol in symbols
    ]


def describe_place(corpus: Corpus, sentence: int, position: int) -> Place:
    """Return the sentence pair around a target position.

    Raises:
        UserError: the split has no such position.
    """
    corpus.check_sentence(sentence, position)
    pair = corpus.dataset[sentence]
    texts = []
    for tokens, dictionary in (
        (pair["source"], corpus.task.source_dictionary),
        (pair["target"], corpus.task.target_dictionary),
    ):
        texts.append(readable([dictionary[token] for token in tokens], dictionary))
    source, target = texts
    target[position] = f"[{target[position]}]"
    end = readable([corpus.task.source_dictionary.eos_word], corpus.task.source_dictionary)
    sides = (" ".join(word for word in side if [word] != end) for side in (source, target))
    return Place(sentence, position, *sides)


def top_tokens(
    corpus: Corpus, runs: Sequence[Run], sentence: int, position: int, top_k: int = TOP_K
) -> pd.DataFrame:
    """Return the best tokens at one target position after each epoch of each run.

    Args:
        corpus: the split.
        runs: the runs to compare.
        sentence: index of the sentence in the split.
        position: index of the target token, from 0.
        top_k: the number of tokens.

    Returns:
        Columns run, epoch, rank (from 1), token, probability and only_here (whether no list of
        another run has the token, in any epoch).

    Raises:
        UserError: the split has no such position, or ``top_k`` is not in [1, vocabulary].
    """
    corpus.check_sentence(sentence, position)
    dictionary = _check_top_k(corpus, top_k)
    rows = []
    for run in runs:
        for epoch, file in run.checkpoints.items():
            lprobs = _log_probs_at(corpus, file, sentence, position)
            values, tokens = lprobs.topk(top_k)
            names = readable([dictionary[token] for token in tokens], dictionary)
            for rank, (name, value) in enumerate(zip(names, values.exp().tolist(), strict=True), 1):
                rows.append((run.name, epoch, rank, name, value))
    frame = pd.DataFrame(rows, columns=["run", "epoch", "rank", "token", "probability"])
    frame["only_here"] = frame.groupby("token").run.transform("nunique").eq(1) & (len(runs) > 1)
    return frame


def _check_top_k(corpus: Corpus, top_k: int) -> Dictionary:
    dictionary = corpus.task.target_dictionary
    if not 1 <= top_k <= len(dictionary):
        raise UserError(
            f"--top-k must lie between 1 and {len(dictionary)} (the vocabulary), not {top_k}"
        )
    return dictionary


def _log_probs_at(corpus: Corpus, file: Path, sentence: int, position: int) -> Tensor:
    for chunk in corpus.walk([corpus.load(file)], np.array([sentence])):
        here = chunk.positions.eq(position)
        if here.any():
            return chunk.lprobs[0][here][0].cpu()
    raise AssertionError("walk yields every position")


def mass_on_own_tokens(lprobs: Sequence[Tensor], top_k: int) -> Tensor:
    """Return how much models differ at each position, by the tokens in their top k.

    The value is the mean over models r of Σ p_r(y). The sum is over tokens y that are in r's top k
    and in no other model's top k.

    Args:
        lprobs: log-probabilities of two models or more, shape (n, V) each.
        top_k: k.

    Returns:
        Shape (n,), in [0, 1].
    """
    best = [values.topk(top_k, dim=-1) for values in lprobs]
    total = torch.zeros(len(lprobs[0]), dtype=torch.float64, device=lprobs[0].device)
    for index, (values, tokens) in enumerate(best):
        others = torch.cat([other.indices for i, other in enumerate(best) if i != index], dim=-1)
        own = ~tokens.unsqueeze(-1).eq(others.unsqueeze(-2)).any(-1)
        total += (values.double().exp() * own).sum(-1)
    return total / len(lprobs)


def find_places(corpus: Corpus, runs: Sequence[Run], most: int, top_k: int = TOP_K) -> pd.DataFrame:
    """Return the positions where the runs' last checkpoints differ most, one for each sentence.

    Args:
        corpus: the split.
        runs: two or more; :func:`mass_on_own_tokens` compares their last checkpoints.
        most: the number of positions.
        top_k: k.

    Returns:
        Columns sentence, position, own_mass, target; the greatest difference is first.

    Raises:
        UserError: fewer than two runs, ``most`` less than 1, or ``top_k`` not in
            [1, vocabulary].
    """
    if most < 1:
        raise UserError(f"--find must be at least 1, not {most}")
    if len(runs) < 2:
        raise UserError("--find compares runs: give two --run NAME=DIR or more")
    _check_top_k(corpus, top_k)
    models = [corpus.load(run.last) for run in runs]
    found: dict[int, tuple[float, int]] = {}
    for chunk in corpus.walk(models, corpus.all_sentences(), "find"):
        masses = mass_on_own_tokens(chunk.lprobs, top_k).tolist()
        places = zip(chunk.sentences.tolist(), chunk.positions.tolist(), masses, strict=True)
        for sentence, position, mass in places:
            # Of two equal masses, take the earlier position, in whatever order the chunks come.
            found[sentence] = max(found.get(sentence, (-1.0, 0)), (mass, -position))
        found = dict(heapq.nlargest(most, found.items(), key=lambda item: (item[1], -item[0])))
    rows = [
        (sentence, -position, mass, describe_place(corpus, sentence, -position).target)
        for sentence, (mass, position) in found.items()
    ]
    return pd.DataFrame(rows, columns=["sentence", "position", "own_mass", "target"])


def as_markdown(frame: pd.DataFrame, place: Place) -> str:
    """Return :func:`top_tokens` as Markdown, as in Table 3: **bold** tokens are in one run only."""

    def bold(name: str, only_here: bool) -> str:
        name = MARKDOWN_SIGNS.sub(r"\\\1", name)
        return f"**{name}**" if only_here else name

    source, target = (MARKDOWN_SIGNS.sub(r"\\\1", text) for text in (place.source, place.target))
    table = tabulate(
        _cells(frame, bold), headers="keys", tablefmt="pipe", disable_numparse=True, showindex=False
    )
    return f"SRC: {source}  \nTRG: {target}\n\n{table}\n"


def as_text(frame: pd.DataFrame, place: Place, width: int) -> str:
    """Return :func:`top_tokens` for a terminal of ``width`` columns; * marks tokens of one run."""
    cells = _cells(frame, lambda name, only_here: f"*{name}" if only_here else name)
    # 11 and 3 are the widths of borders, padding and the column of epochs.
    column = max(16, (width - 11) // (len(cells.columns) - 1) - 3)
    table = tabulate(
        cells,
        headers="keys",
        tablefmt="grid",
        disable_numparse=True,
        showindex=False,
        maxcolwidths=[None] + [column] * (len(cells.columns) - 1),
    )
    return f"SRC: {place.source}\nTRG: {place.target}\n{table}\n* in the top of this run only"


def _cells(frame: pd.DataFrame, mark: Callable[[str, bool], str]) -> pd.DataFrame:
    """Return a table with a row for each epoch and a column for each run.

    A comma can be a token, so dots separate the tokens.
    """
    marked = frame.assign(
        cell=[mark(*row) for row in zip(frame.token, frame.only_here, strict=True)]
    )
    table = marked.groupby(["epoch", "run"], sort=False).cell.agg(" · ".join).unstack("run")
    return table[frame.run.unique()].sort_index().fillna("").reset_index().astype(str)


def plot_top_tokens(frame: pd.DataFrame, path: Path, place: Place) -> None:
    """Draw :func:`top_tokens`: a column for each epoch, shaded by probability."""
    runs = frame.groupby("run", sort=False)
    columns, ranks = runs.epoch.nunique(), frame["rank"].max()
    beside = columns.sum() <= 12
    width, height = 0.35 + 0.92 * columns, 0.55 + 0.27 * ranks
    size = (width.sum(), height) if beside else (width.max(), height * len(columns))
    with plotting.figure(path, max(6.0, size[0] + 1.3), size[1] + 1.2) as drawing:
        if beside:
            ratios = {"width_ratios": columns}
            panels = drawing.subplots(1, len(columns), squeeze=False, gridspec_kw=ratios)[0]
        else:
            panels = drawing.subplots(len(columns), 1, squeeze=False)[:, 0]
        for axes, (name, run) in zip(panels, runs, strict=True):
            image = _draw_lists(axes, run.pivot(index="rank", columns="epoch"))
            axes.set_title(name)
            axes.set_xlabel("epoch")
            axes.set_ylabel("rank")
        drawing.colorbar(image, ax=panels, label="probability", shrink=0.8, aspect=25)
        title = f"{shorten(place.source)}\n{shorten(place.target, around='[')}"
        drawing.suptitle(f"{title}\nframed: in the top {ranks} of one run only", fontsize=10)


def _draw_lists(axes: Axes, lists: pd.DataFrame) -> object:
    values = lists.probability.to_numpy()
    # Shaded by the square root, because most probabilities in a list are small.
    image = axes.imshow(values, cmap="Blues", norm=PowerNorm(0.5, 0, 1), aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        name, only_here = (lists[key].iat[row, column] for key in ("token", "only_here"))
        axes.text(
            *(column, row, shorten(name, 11)),
            ha="center",
            va="center",
            fontsize=9,
            fontweight="bold" if only_here else "normal",
            color="white" if value > 0.4 else "black",
            bbox={"boxstyle": "round,pad=0.15", "facecolor": "none", "linewidth": 1.2}
            | {"edgecolor": plotting.ORANGE if only_here else "none"},
        )
    axes.set_xticks(range(values.shape[1]), lists.probability.columns)
    axes.set_yticks(range(values.shape[0]), lists.index)
    axes.grid(False)
    return image


def shorten(text: str, most: int = 78, around: str = "") -> str:
    """Return at most ``most`` letters of a text, around the text ``around``."""
    if len(text) <= most:
        return text
    start = min(max(0, text.find(around) - most // 2), len(text) - most) if around else 0
    part = text[start : start + most]
    return ("…" if start else "") + part + ("…" if start + most < len(text) else "")


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    place_given = [args.sentence is not None, args.position is not None]
    if any(place_given) != all(place_given) or any(place_given) == (args.find is not None):
        raise UserError("give either --sentence N --position N, or --find N")
    if args.epochs < 2:
        raise UserError(f"--epochs must be at least 2, not {args.epochs}")
    runs = options.open_runs(args)
    corpus = options.open_corpus(args, like=runs[0].last)
    if task_traits.is_language_modeling(corpus.task):
        raise UserError(
            "top-tokens shows a source sentence and its translation: give runs of a translation "
            "task, not of a language model"
        )
    sentence, position = args.sentence, args.position
    if args.find is not None:
        found = find_places(corpus, runs, args.find, args.top_k)
        options.write_table(found, args.out, "found")
        options.show(found)
        sentence, position = found.sentence.iat[0], found.position.iat[0]
    place = describe_place(corpus, sentence, position)
    frame = top_tokens(
        corpus, [spread(run, args.epochs) for run in runs], sentence, position, args.top_k
    )
    options.write_table(frame, args.out)
    Path(f"{args.out}.md").write_text(as_markdown(frame, place), encoding="utf-8")
    plot_top_tokens(frame, args.out, place)
    print(as_text(frame, place, shutil.get_terminal_size().columns))
    print(f"wrote {args.out}.csv, {args.out}.md, {args.out}.png, {args.out}.svg")


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``top-tokens``."""
    parser = options.add_command(
        commands,
        "top-tokens",
        command,
        "Table 3: the student's top 10 at one position, per epoch, for each run",
        "List the most probable tokens at one target position after every epoch of every run. Mark "
        "tokens that are in the lists of one run only. Also write Markdown (PATH.md).",
    )
    group = parser.add_argument_group("place")
    group.add_argument(
        "--sentence",
        type=int,
        metavar="N",
        help="index of the sentence in the split, from 0, as in fairseq-generate's S-N",
    )
    group.add_argument(
        "--position",
        type=int,
        metavar="N",
        help="index of the target token, from 0",
    )
    group.add_argument(
        "--find",
        type=int,
        metavar="N",
        help="instead: list the N positions where the runs' last checkpoints differ most, and show "
        "the first; the measure is the probability on tokens that only one run has in its top k",
    )
    parser.add_argument("--top-k", type=int, default=TOP_K, metavar="K", help="tokens in a list")
    parser.add_argument(
        "--epochs",
        type=int,
        default=EPOCHS,
        metavar="N",
        help="number of epochs shown, evenly spread, with the first and the last",
    )
    options.add_run_options(parser)
    options.add_corpus_options(parser)
