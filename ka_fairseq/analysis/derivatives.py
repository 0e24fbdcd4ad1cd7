"""Fig. 2: derivatives of forward and backward KL, for a one-mode student and two-mode teacher."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ka_fairseq.analysis import options, plotting


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution with a weight in a mixture."""

    mean: float
    deviation: float
    weight: float = 1.0

    def log_density(self, y: np.ndarray) -> np.ndarray:
        """Return log(weight · N(y; mean, deviation²))."""
        z = (y - self.mean) / self.deviation
        return np.log(self.weight) - 0.5 * z**2 - np.log(self.deviation * np.sqrt(2 * np.pi))


@dataclass(frozen=True)
class Case:
    """A column of the figure."""

    name: str
    learner: Gaussian


TEACHER = (Gaussian(-2.0, 1.0, 0.5), Gaussian(2.0, 1.0, 0.5))
CASES = (
    Case("learner between the modes", Gaussian(0.0, 1.3)),
    Case("learner on one mode", Gaussian(-2.0, 1.1)),
)
GRID = np.linspace(-6, 6, 1201)
P_ABOVE, P_BELOW = "p > q", "p < q"


def derivatives(
    cases: Sequence[Case] = CASES, teacher: Sequence[Gaussian] = TEACHER, y: np.ndarray = GRID
) -> pd.DataFrame:
    """Compute densities and derivatives (Sun & Cross, Eq. 5 and 6) along y.

    Forward: ∂KL(q‖p)/∂p(y) = 1 − q(y)/p(y). Backward: ∂KL(p‖q)/∂p(y) = log p(y)/q(y), in nats. Both
    include the Lagrange multiplier of Σp = 1, as in the paper's appendix B.1.

    Args:
        cases: students p, one Gaussian each.
        teacher: q, a mixture whose weights sum to 1.
        y: the points, shape (n,).

    Returns:
        Columns case, y, p, q, forward, backward, region; n rows for each case.
    """
    log_q = np.logaddexp.reduce([part.log_density(y) for part in teacher])
    frames = []
    for case in cases:
        log_p = case.learner.log_density(y)
        columns = {
            "case": case.name,
            "y": y,
            "p": np.exp(log_p),
            "q": np.exp(log_q),
            "forward": -np.expm1(log_q - log_p),
            "backward": log_p - log_q,
            "region": np.where(log_p > log_q, P_ABOVE, P_BELOW),
        }
        frames.append(pd.DataFrame(columns))
    return pd.concat(frames, ignore_index=True)


def plot_derivatives(frame: pd.DataFrame, path: Path) -> None:
    """Draw :func:`derivatives`: a column for each case, densities above, derivatives below."""
    cases = frame.groupby("case", sort=False)
    with plotting.figure(path, plotting.FULL_PAGE, 5.2) as drawing:
        grid = drawing.subplots(2, cases.ngroups, sharex=True, sharey="row", squeeze=False)
        for (density, slope), (name, case) in zip(grid.T, cases, strict=True):
            density.set_title(name)
            density.plot(case.y, case.q, color=plotting.BLUE, label="teacher q")
            density.plot(case.y, case.p, color=plotting.ORANGE, label="learner p")
            slope.plot(case.y, case.forward, "--", color=plotting.BLACK, label="forward 1 − q/p")
            slope.plot(case.y, case.backward, color=plotting.BLACK, label="backward log p/q")
            # Both derivatives fall without bound in the tails; the range shows the modes.
            slope.set_ylim(-6, 3)
            slope.set_xlabel("y")
            for axes in (density, slope):
                _shade(axes, case)
                axes.margins(x=0)
        grid[0, 0].set_ylim(bottom=0)
        grid[0, 0].set_ylabel("density")
        grid[1, 0].set_ylabel("∂KL / ∂p(y)")
        plotting.legend_above(drawing)


def _shade(axes: Axes, case: pd.DataFrame) -> None:
    """Shade the regions p > q and p < q; the hatching makes them distinct in grey."""
    for region, colour, hatch in (
        (P_ABOVE, plotting.PINK, ""),
        (P_BELOW, plotting.SKY, "//"),
    ):
        axes.fill_between(
            case.y,
            0,
            1,
            where=case.region.eq(region),
            transform=axes.get_xaxis_transform(),
            facecolor=colour,
            edgecolor="white",
            hatch=hatch,
            linewidth=0,
            alpha=0.28,
            label=region,
            zorder=0,
        )


def command(args: argparse.Namespace) -> None:
    """Run the command."""
    frame = derivatives()
    options.write_table(frame, args.out)
    plot_derivatives(frame, args.out)
    summary = frame.groupby(["case", "region"], sort=False)[["forward", "backward"]]
    options.show(summary.agg(["min", "max"]).reset_index(), args.out)


def add_command(commands: argparse._SubParsersAction) -> None:
    """Add ``derivatives``."""
    options.add_command(
        commands,
        "derivatives",
        command,
        "Fig. 2: both derivatives for a one-mode student of a two-mode teacher",
        "Draw the densities, the regions p > q and p < q, and both derivatives: 1 − q/p (forward) "
        "and log p/q (backward). One student lies between the teacher's modes, one on a mode.",
    )
