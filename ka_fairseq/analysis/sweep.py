"""Fig. 4a: translation quality over k, from the results of a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from ka_fairseq.analysis import options, plotting
from ka_fairseq.errors import UserError

NAMES = {
    "backward_kl": "backward KL (KA)",
    "forward_kl": "forward KL (KD)",
    "jsd_mixture": "½KA + ½KD",
}
WHOLE = "|V|"


def read_results(file: Path, metric: str = "bleu") -> pd.DataFrame:
    """Read a sweep's results: one row for each training run.

    Args:
        file: CSV with the columns criterion, top_k (0 means the whole vocabulary) and the metric;
            other columns, such as transfer_weight, are kept.
        metric: the metric's column.

    Raises:
        UserError: the file or a column is missing, the file has no rows, or a value in top_k or the
            metric is not a number.
    """
    if not file.is_file():
        raise UserError(f"no results at {file}: check --results")
    frame = pd.read_csv(file)
    missing = {"criterion", "top_k", metric} - set(frame.columns)
    if missing:
        raise UserError(
            f"{file} has no column {', '.join(sorted(missing))} (it has "
            f"{', '.join(frame.columns)}): add it, or give the metric's column with --metric"
        )
    for column in ("top_k", metric):
        values = pd.to_numeric(frame[column], errors="coerce")
        if values.isna().any():
            line = int(values.isna().idxmax()) + 2
            raise UserError(f"{file}, line {line}: {column} is not a number; correct or drop it")
        frame[column] = values
    if frame.empty:
        raise UserError(f"{file} has no results: run the sweep first")
    return frame


def sweep(results: pd.DataFrame, metric: str = "bleu") -> pd.DataFrame:
    """Return the best result of each criterion at each k. Of equal results, take the first row.

    Args:
        results: the result of :func:`read_results`.
        metric: the column to maximize.

    Returns:
        The best rows, sorted by criterion and k; k = |V| (top_k 0) comes last.
    """
    best = results.loc[results.groupby(["criterion", "top_k"])[metric].idxmax()]
    order = best.top_k.where(best.top_k > 0, float("inf"))
    return (
        best.assign(order=order)
        .sort_values(["criterion", "order"])
        .drop(columns="order")
        .reset_index(drop=True)
    )


def plot_sweep(
    frame: pd.DataFrame, path: Path, metric: str = "bleu", others: pd.DataFrame | None = None
) -> None:
    """Draw :func:`sweep`: a line for each criterion, with |V| separate at the right.

    Args:
        frame: the best results.
        path: the output path, without a suffix.
        metric: the metric's column.
        others: all results, drawn as faint points.
    """
    sizes = sorted(size for size in frame.top_k.unique() if size > 0)
    # Even steps, as in the paper's figure: k doubles, and |V| is much greater.
    places = {size: place for place, size in enumerate(sizes)} | {0: len(sizes) + 0.5}
    shown = [size for size in (*sizes, 0) if frame.top_k.eq(size).any()]
    styles = plotting.series_styles(sorted(frame.criterion.unique()))
    with plotting.figure(path) as drawing:
        axes = drawing.subplots()
        for name, line in frame.groupby("criterion"):
            style, label = styles[name], NAMES.get(name, name)
            some = line[line.top_k > 0]
            axes.plot(some.top_k.map(places), some[metric], label=label, **style)
            whole = line[line.top_k == 0]
            unlabelled = {} if len(some) == 0 else {"label": None}
            axes.plot(
                whole.top_k.map(places), whole[metric], **{"label": label, **style, **unlabelled}
            )
            if others is not None:
                faint = others[others.criterion.eq(name)]
                axes.plot(
                    *(faint.top_k.map(places), faint[metric], style["marker"]),
                    color=style["color"],
                    markersize=3.5,
                    alpha=0.35,
                )
        axes.set_xticks(
            [places[size] for size in shown], [f"{size:g}" if size else WHOLE for size in shown]
        )
        axes.set_xlabel("k, tokens that the divergence is restricted to")
        axes.set_ylabel({"bleu": "BLEU", "chrf": "chrF"}.get(metric, metric))
        plotting.legend_above(drawing, columns=2)


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    results = read_results(args.results, args.metric)
    frame = sweep(results, args.metric)
    options.write_table(frame, args.out)
    plot_sweep(frame, args.out, args.metric, results)
    options.show(frame, args.out)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``sweep``."""
    parser = options.add_command(
        commands,
        "sweep",
        command,
        "Fig. 4a: BLEU over k, from the results of a sweep",
        "Draw each criterion's best result at each k, over λ and all other varied settings. Draw "
        "the other results as faint points. Use results on a validation set.",
    )
    parser.add_argument(
        "--results",
        type=Path,
        required=True,
        metavar="FILE",
        help="CSV with the columns criterion, top_k (0 = the whole vocabulary), the metric and "
        "optionally transfer_weight",
    )
    parser.add_argument("--metric", default="bleu", metavar="COLUMN", help="the metric's column")
