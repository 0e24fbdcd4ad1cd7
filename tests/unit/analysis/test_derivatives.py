"""Fig. 2 against autograd of the package's own divergences."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ka_fairseq.analysis.derivatives import CASES, GRID, P_ABOVE, P_BELOW, derivatives
from ka_fairseq.loss import divergences


@pytest.fixture(scope="module")
def frame():
    return derivatives()


def test_derivatives_are_those_of_the_package(frame):
    """∂/∂log p = p·∂/∂p; the multipliers of Σp = 1 are λ = 1 and −1 (appendix B.1)."""
    for _, case in frame.groupby("case"):
        # Where a density is too small for a quotient, autograd's route has no digits left.
        case = case[case.p > 1e-12]
        log_p = torch.tensor(np.log(case.p.to_numpy())[None], requires_grad=True)
        log_q = torch.tensor(np.log(case.q.to_numpy())[None])
        for column, divergence, multiplier in (
            ("forward", divergences.forward_kl, 1),
            ("backward", divergences.backward_kl, -1),
        ):
            (gradient,) = torch.autograd.grad(divergence(log_p, log_q).sum(), log_p)
            by_p = gradient / log_p.exp() + multiplier
            expected = by_p.detach().numpy()[0]
            assert case[column].to_numpy() == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_densities_are_densities(frame):
    for _, case in frame.groupby("case"):
        step = GRID[1] - GRID[0]
        assert case.p.sum() * step == pytest.approx(1, abs=1e-3)
        assert case.q.sum() * step == pytest.approx(1, abs=1e-3)


def test_what_the_paper_reads_from_the_figure(frame):
    """Same signs; backward pushes down harder where p > q, forward pulls up harder elsewhere."""
    assert len(frame) == len(CASES) * len(GRID)
    above, below = (frame[frame.region.eq(region)] for region in (P_ABOVE, P_BELOW))
    assert len(above) and len(below) and len(above) + len(below) == len(frame)
    assert (above.forward > 0).all() and (above.backward > above.forward).all()
    assert (below.backward < 0).all() and (below.forward < below.backward).all()
    assert (above.p > above.q).all() and (below.p < below.q).all()


def test_values_by_hand(frame):
    middle = frame[frame.case.eq(CASES[0].name) & np.isclose(frame.y, 0)].iloc[0]
    p = 1 / (1.3 * np.sqrt(2 * np.pi))
    q = np.exp(-2) / np.sqrt(2 * np.pi)
    assert [middle.p, middle.q] == pytest.approx([p, q])
    assert [middle.forward, middle.backward] == pytest.approx([1 - q / p, np.log(p / q)])
