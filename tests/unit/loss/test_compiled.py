"""torch.compile takes what is done to a block of logits as one graph, for all that compiles."""

import pytest
import torch

from ka_fairseq.loss import chunked
from ka_fairseq.loss.divergences import BACKWARD_KL, FORWARD_KL, divergence_named, divergence_names
from ka_fairseq.loss.divergences.ranking import WithRanking
from ka_fairseq.loss.ensemble import GatheredDistribution, TeacherOutput
from ka_fairseq.loss.objective import Objective, row_losses
from ka_fairseq.loss.projection import Projection

pytestmark = pytest.mark.skipif(not hasattr(torch, "compile"), reason="torch 1 has no compiler")

V = 300
DIVERGENCES = {
    **{n: d for n in divergence_names() if (d := divergence_named(n)).compiles},
    "generalized": BACKWARD_KL.restricted(5, "generalized"),
    "tail": FORWARD_KL.restricted(5, "tail"),
    "ranking": WithRanking(FORWARD_KL, 3),
}


@pytest.fixture
def graphs(monkeypatch):
    """The graphs made, with :func:`row_losses` traced as for the compiler, and run as they are."""
    torch._dynamo.reset()
    made = []

    def keep(graph, _):
        made.append(graph)
        return graph

    compile_as = torch.compile
    monkeypatch.setattr(torch, "compile", lambda f, **how: compile_as(f, backend=keep, **how))
    chunked.compiled_row_losses.cache_clear()
    yield made
    chunked.compiled_row_losses.cache_clear()


def some(n, seed):
    return torch.randn(n, V, generator=torch.Generator().manual_seed(seed))


def both(teacher, objective, n=5, threshold=None):
    """Losses and gradients of eager and of compiled, for the same rows."""
    results = []
    for losses_of in (row_losses, chunked.compiled_row_losses()):
        logits = some(n, seed=n)
        losses = losses_of(
            *(logits, teacher, None, torch.arange(n), objective, True),
            *(() if threshold is None else (threshold,)),
        )
        results.append([*losses, logits])
    return zip(*results, strict=True)


QUICK = ("backward_kl", "ranking")  # tracing takes seconds each


@pytest.mark.parametrize(
    "name",
    [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in DIVERGENCES],
)
def test_it_is_one_graph(graphs, name):
    objective = Objective(DIVERGENCES[name], 0.5, 0.1, accuracy=True)
    for eager, compiled in both([some(5, seed=99)], objective):
        torch.testing.assert_close(compiled, eager)
    assert len(graphs) == 1


def test_a_schedule_and_other_sizes_compile_nothing_anew(graphs):
    for update in range(10):  # more than torch.compile's limit of 8
        n = 3 + update % 4
        objective = Objective(BACKWARD_KL, 0.1 + update / 20, 0.1, temperature=2.0)
        for eager, compiled in both([some(n, seed=50)], objective, n):
            torch.testing.assert_close(compiled, eager)
    assert len(graphs) == 1


def test_single_tokens_of_a_teacher_and_hard_positions_too(graphs):
    hidden, weight = torch.randn(9, 8), torch.randn(V, 8)
    normalizer = (hidden @ weight.T).logsumexp(-1)
    teacher = TeacherOutput([Projection(hidden, weight, None, normalizer)], torch.rand(9))
    for start in (0, 3):
        asked = GatheredDistribution(teacher, slice(start, start + 5))
        objective = Objective(DIVERGENCES["generalized"], 0.5, 0.1)
        for eager, compiled in both(asked, objective, threshold=torch.tensor(6.0)):
            torch.testing.assert_close(compiled, eager)
    assert len(graphs) == 1
