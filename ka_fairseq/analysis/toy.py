"""Fig. 3: a task with four classes and a divergence restricted to two of them.

The student consists of four logits. Plain gradient descent minimizes a divergence restricted to
k = 2 classes: the teacher's two best (forward KL) or the student's two best (backward KL).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from torch import Tensor

from ka_fairseq.analysis import options, plotting
from ka_fairseq.errors import UserError
from ka_fairseq.loss.divergences import TOP_K_FORMS, backward_kl, forward_kl

TEACHER = (0.4, 0.3, 0.2, 0.1)
TOP_K = 2
ORDERS = {"forward": forward_kl, "backward": backward_kl}

# With this start and rate the course is that of the paper's figure. Forward is within .02 of q0 and
# q1 after 37 epochs. Backward's best two become {0, 1} after 100, and backward ends nearer to q.
START = (0.40, 0.04, 0.53, 0.03)
RATE = 0.5
EPOCHS = 200
# With this start the best two change in the same way, but forward ends nearer.
COUNTER_START = (0.33, 0.20, 0.30, 0.17)

MARKED = {
    START[0]: (START, "like the paper's figure"),
    COUNTER_START[0]: (COUNTER_START, "forward nearer"),
}

# Enough epochs for all starts except starts near the ridge p1 = p3, where backward can see {0, 2}
# for any number of epochs. With RATE, steps overshoot where backward changes its classes, and the
# shares change by a percent. MAP_RATE avoids that.
MAP_RATE, MAP_EPOCHS = 0.25, 3000
# Two distances count as the same if they differ by at most this.
SAME = 0.005
CLASSES = [f"p{index}" for index in range(len(TEACHER))]


def train(starts: Tensor, order: str, form: str, rate: float, epochs: int) -> Tensor:
    """Train logits by plain gradient descent; return the probabilities at each epoch.

    Args:
        starts: probabilities to start from, shape (N, 4); rows are independent.
        order: a key of :data:`ORDERS`.
        form: the top-k form, see :mod:`ka_fairseq.loss.divergences`.
        rate: learning rate.
        epochs: number of steps.

    Returns:
        The probabilities before each epoch and after the last; shape (epochs + 1, N, 4), float64.
    """
    teacher = torch.tensor(TEACHER, dtype=torch.float64).log().expand(len(starts), -1)
    logits = starts.double().log()
    course = [torch.softmax(logits, -1)]
    for _ in range(epochs):
        logits.requires_grad_(True)
        lprobs = torch.log_softmax(logits, -1)
        loss = ORDERS[order](lprobs, teacher, top_k=TOP_K, top_k_form=form).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = logits.detach() - rate * gradient
        course.append(torch.softmax(logits, -1))
    return torch.stack(course)


def toy(
    start: Sequence[float] = START,
    forms: Sequence[str] = TOP_K_FORMS,
    rate: float = RATE,
    epochs: int = EPOCHS,
) -> pd.DataFrame:
    """Return the course of the student's training for every top-k form and both orders.

    Args:
        start: the student's four probabilities.
        forms: top-k forms.
        rate: learning rate.
        epochs: number of steps.

    Returns:
        Columns form, order, epoch, p0…p3, seen (the two classes that the divergence is
        restricted to, such as "{0, 2}") and distance (|p2 − q2| + |p3 − q3|).

    Raises:
        UserError: ``start`` is not a positive distribution over four classes.
    """
    frames = []
    for form in forms:
        for order in ORDERS:
            course = train(_check_start(start), order, form, rate, epochs)[:, 0]
            columns = {"form": form, "order": order, "epoch": np.arange(epochs + 1)}
            columns |= dict(zip(CLASSES, course.T.numpy(), strict=True))
            ranked = course if order == "backward" else torch.tensor([TEACHER])
            columns |= {"seen": list(np.broadcast_to(_names_of_best(ranked), len(course)))}
            columns["distance"] = unseen_distance(course)
            frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def unseen_distance(probabilities: Tensor) -> Tensor:
    """Return |p2 − q2| + |p3 − q3|, the distance on the classes outside the teacher's best two."""
    rest = torch.tensor(TEACHER[TOP_K:], dtype=torch.float64)
    return (probabilities[..., TOP_K:] - rest).abs().sum(-1)


def toy_map(
    starts: Tensor, form: str = "generalized", rate: float = MAP_RATE, epochs: int = MAP_EPOCHS
) -> pd.DataFrame:
    """Test at many starts the paper's claim: backward ends nearer to q on classes 2 and 3.

    Args:
        starts: probabilities to start from, shape (N, 4).
        form: top-k form.
        rate: learning rate.
        epochs: number of steps.

    Returns:
        One row for each start: p0…p3 (the start), forward and backward (each order's distance at
        the end), nearer (the order that ends nearer, or "same", within :data:`SAME`) and like_paper
        (whether backward sees {0, 2} first and {0, 1} at the end).
    """
    ends = {order: train(starts, order, form, rate, epochs)[[0, -1]] for order in ORDERS}
    first, last = (_names_of_best(end) for end in ends["backward"])
    distances = {order: unseen_distance(end[-1]) for order, end in ends.items()}
    frame = pd.DataFrame(starts.numpy(), columns=CLASSES).assign(**distances)
    lead = frame.forward - frame.backward
    frame["nearer"] = np.select([lead > SAME, lead < -SAME], ["backward", "forward"], "same")
    frame["like_paper"] = (first == "{0, 2}") & (last == "{0, 1}")
    return frame


def slice_of_starts(first: float, step: float = 0.01) -> Tensor:
    """Return all starts with p0 = ``first`` on a grid of p2 and p3, at least half a step each."""
    axis = torch.arange(step / 2, 1 - first, step, dtype=torch.float64)
    second, third = (values.flatten() for values in torch.meshgrid(axis, axis, indexing="ij"))
    rest = 1 - first - second - third
    starts = torch.stack([torch.full_like(rest, first), rest, second, third], dim=1)
    return starts[rest >= step / 2 - 1e-9]


def random_starts(size: int = 2000, seed: int = 1) -> Tensor:
    """Draw starts uniformly from all distributions over four classes, shape (size, 4)."""
    return torch.from_numpy(np.random.default_rng(seed).dirichlet(np.ones(len(TEACHER)), size))


def plot_toy(frame: pd.DataFrame, path: Path) -> None:
    """Draw :func:`toy`: a row for each form, a column for each order."""
    forms = frame.form.unique()
    with plotting.figure(path, plotting.FULL_PAGE, 0.9 + 2.1 * len(forms)) as drawing:
        grid = drawing.subplots(len(forms), len(ORDERS), sharex=True, sharey=True, squeeze=False)
        for row, form in zip(grid, forms, strict=True):
            for axes, order in zip(row, ORDERS, strict=True):
                _draw_course(axes, frame[frame.form.eq(form) & frame.order.eq(order)])
                axes.set_title(f"{order}, {form}")
            row[0].set_ylabel("probability")
        # Leaves room for the text above the lines.
        grid[0, 0].set_ylim(0, 1.25 * frame[CLASSES].to_numpy().max())
        for axes in grid[-1]:
            axes.set_xlabel("epoch")
        plotting.legend_above(drawing, columns=len(CLASSES) + 1)


def _draw_course(axes: Axes, course: pd.DataFrame) -> None:
    styles = plotting.series_styles(CLASSES)
    every = max(1, len(course) // 8)
    for name, target in zip(CLASSES, TEACHER, strict=True):
        axes.axhline(target, color=styles[name]["color"], linestyle=":", linewidth=1.4)
        axes.plot(course.epoch, course[name], label=name, markevery=every, **styles[name])
    axes.plot([], [], ":", color=plotting.GREY, label="teacher q0…q3")
    changes = course[course.seen.ne(course.seen.shift())]
    sets = list(changes.seen)
    # With some forms the classes change hundreds of times.
    text = sets[0] if len(sets) <= 2 else f"{len(sets) - 1} changes"
    if len(sets) == 2:
        axes.axvline(changes.epoch.iloc[1], color=plotting.GREY, linewidth=1)
        text += f", from epoch {changes.epoch.iloc[1]} on {sets[1]}"
    text = f"classes seen: {text}"
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    place = {"transform": axes.transAxes, "ha": "right", "va": "top"}
    axes.text(0.99, 0.97, text, fontsize=9.5, bbox=box, **place)
    axes.margins(x=0.01)


def plot_toy_map(slices: pd.DataFrame, everywhere: pd.DataFrame, path: Path) -> None:
    """Draw :func:`toy_map` on slices of starts, with the shares over all starts as the title.

    Args:
        slices: starts with the values of p0 in :data:`MARKED`, on a grid of p2 and p3.
        everywhere: starts drawn from all distributions, for the shares in the title.
        path: the output path, without a suffix.
    """
    groups = slices.assign(lead=slices.forward - slices.backward).groupby("p0", sort=False)
    limit = (slices.forward - slices.backward).abs().max()
    with plotting.figure(path, plotting.FULL_PAGE, 4.3) as drawing:
        row = drawing.subplots(1, groups.ngroups, sharex=True, sharey=True, squeeze=False)[0]
        for axes, (first, group) in zip(row, groups, strict=True):
            lead, paper = (
                group.pivot(index="p3", columns="p2", values=value).astype(float)
                for value in ("lead", "like_paper")
            )
            image = axes.pcolormesh(
                *(lead.columns, lead.index, lead.to_numpy()),
                cmap="PuOr",
                norm=TwoSlopeNorm(0, -limit, limit),
                rasterized=True,
            )
            axes.contour(
                *(paper.columns, paper.index, paper.fillna(0).to_numpy(), [0.5]),
                colors=plotting.BLACK,
                linewidths=1.2,
            )
            start, meaning = MARKED[first]
            axes.plot(*start[2:], "*", color=plotting.BLACK, markersize=11, mec="white")
            axes.set_title(f"p0 = {first:.2f} (star: {meaning})")
            axes.plot([0, 0, 1 - first, 0], [1 - first, 0, 0, 1 - first], color=plotting.GREY)
            axes.set_xlabel("p2 at the start")
            axes.set_aspect("equal")
            axes.grid(False)
        row[0].set_ylabel("p3 at the start")
        bar = drawing.colorbar(image, ax=row, shrink=0.72)
        bar.set_label("distance to q2 and q3:\nforward − backward")
        bar.ax.set_title("backward\nnearer", fontsize=9.5)
        bar.ax.set_xlabel("forward\nnearer", fontsize=9.5)
        drawing.suptitle(
            f"Of all starts: {_shares(everywhere)}\n"
            f"Of starts that see {{0, 2}} first and {{0, 1}} later (outlined): "
            f"{_shares(everywhere[everywhere.like_paper])}",
            fontsize=9.5,
        )


def _shares(frame: pd.DataFrame) -> str:
    share = frame.nearer.value_counts(normalize=True)
    return ", ".join(
        f"{name} {share.get(key, 0):.0%}"
        for key, name in (
            ("backward", "backward nearer"),
            ("forward", "forward nearer"),
            ("same", "same"),
        )
    )


def _names_of_best(probabilities: Tensor) -> np.ndarray:
    """Return the most probable classes as texts such as "{0, 2}"; shape (N, 4) → (N,)."""
    best = probabilities.topk(TOP_K, dim=-1).indices.sort(-1).values
    return np.array([f"{{{', '.join(map(str, row))}}}" for row in best.tolist()])


def _check_start(start: Sequence[float]) -> Tensor:
    if len(start) != len(TEACHER) or min(start) <= 0 or not math.isclose(sum(start), 1):
        raise UserError(
            f"--start must be {len(TEACHER)} positive probabilities that sum to 1, such as "
            f"{' '.join(map(str, START))}, not {' '.join(map(str, start))}"
        )
    return torch.tensor([start], dtype=torch.float64)


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    if args.epochs < 1 or args.rate <= 0:
        raise UserError("--epochs must be at least 1 and --rate positive")
    if not 0 < args.map_step <= 0.1:
        raise UserError(f"--map-step must lie in (0, 0.1], not {args.map_step}")
    frame = toy(args.start, args.form or TOP_K_FORMS, args.rate, args.epochs)
    options.write_table(frame, args.out)
    plot_toy(frame, args.out)
    ends = frame.groupby(["form", "order"], sort=False).tail(1)
    if args.no_map:
        options.show(ends, args.out)
        return
    starts = torch.cat([slice_of_starts(first, args.map_step) for first in MARKED])
    slices, everywhere = toy_map(starts), toy_map(random_starts())
    map_path = args.out.with_name(f"{args.out.name}_map")
    options.write_table(slices, map_path)
    options.write_table(everywhere, map_path, "random")
    plot_toy_map(slices, everywhere, map_path)
    options.show(ends, args.out, map_path)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``toy``."""
    parser = options.add_command(
        commands,
        "toy",
        command,
        "Fig. 3: the task of four classes, and a map of the starts where the claim holds",
        "Train four logits towards q = .4 .3 .2 .1 on two classes at a time, with both orders and "
        "each top-k form. Then map the starts from which backward ends nearer to q on classes 2 "
        "and 3 (PATH_map).",
    )
    parser.add_argument(
        "--start",
        type=float,
        nargs=len(TEACHER),
        default=START,
        metavar="P",
        help="the student's probabilities at the start",
    )
    parser.add_argument(
        "--form",
        action="append",
        choices=TOP_K_FORMS,
        help="top-k form; may be given several times (default: all)",
    )
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate")
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="number of epochs to draw")
    parser.add_argument(
        "--map-step", type=float, default=0.01, metavar="STEP", help="step of the map's grid"
    )
    parser.add_argument("--no-map", action="store_true", help="draw no map")
