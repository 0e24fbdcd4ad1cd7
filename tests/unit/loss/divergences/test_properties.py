"""What holds of every divergence for any logits, the worst included; checked through hypothesis.

The values are in test_kl.py and test_values.py; this file needs none.
"""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from ka_fairseq.loss.divergences import (
    BACKWARD_KL,
    FORWARD_KL,
    JSD_MIXTURE,
    TOP_K_FORMS,
    KLMixture,
    values,
)
from ka_fairseq.loss.divergences.adaptive_kl import AdaptiveKL
from ka_fairseq.loss.divergences.alpha_beta import AlphaBeta
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.divergences.skew_kl import SkewBackwardKL, SkewForwardKL
from ka_fairseq.loss.divergences.total_variation import TotalVariation

V = 7

# -- adversarial rows of logits --------------------------------------------------------------------

anything = st.lists(st.floats(-1e4, 1e4, width=32), min_size=V, max_size=V)
# Few values, so that most are ties; far apart, or closer than rounding.
ties = st.lists(st.sampled_from([0.0, 1e4, -1e4, 30.0, 1e-30]), min_size=V, max_size=V)
one_hot = st.integers(0, V - 1).map(lambda best: [1e4 if y == best else -1e4 for y in range(V)])
tiny = st.lists(st.floats(-1e-20, 1e-20), min_size=V, max_size=V)
usual = st.lists(st.floats(-20, 20, width=32), min_size=V, max_size=V)
finite = st.one_of(usual, anything, ties, one_hot, tiny)


def ruled_out(row, tokens):
    """Probability 0 for some tokens; the first one stays."""
    return [-math.inf if y in tokens and y else logit for y, logit in enumerate(row)]


with_zeros = st.builds(ruled_out, st.one_of(usual, ties), st.sets(st.integers(0, V - 1)))
any_row = st.one_of(finite, with_zeros)

# -- divergences -----------------------------------------------------------------------------------

kls = st.builds(
    lambda kl, top_k, form: kl.restricted(top_k, form),
    st.sampled_from([FORWARD_KL, BACKWARD_KL, JSD_MIXTURE]),
    st.integers(0, V),
    st.sampled_from(TOP_K_FORMS),
)
exponent = st.one_of(st.just(0.0), st.floats(0.02, 2))
whole = st.one_of(
    st.builds(JensenShannon, st.floats(0, 1)),
    st.builds(SkewForwardKL, st.floats(0, 0.99)),
    st.builds(SkewBackwardKL, st.floats(0, 0.99)),
    st.just(TotalVariation()),
    st.tuples(exponent, exponent).filter(any).map(lambda pair: AlphaBeta(*pair)),
    st.builds(AdaptiveKL, st.floats(0.01, 0.99)),
)
divergences = st.one_of(kls, whole)
dtypes = st.sampled_from([torch.float32, torch.float64])


def is_true(divergence):
    """Whether it is a divergence at all: the sum that the paper prints for a top-k set is none."""
    return divergence.top_k in (0, V) or divergence.top_k_form != "partial"


def rows(*logits, dtype=torch.float64):
    return torch.tensor(logits, dtype=dtype)


def compute(divergence, learner, teacher):
    """The value of each row, and the gradient of the learner's logits."""
    logits = learner.clone().requires_grad_()
    found = values(divergence, logits.log_softmax(-1), teacher.log_softmax(-1))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    return found.detach(), gradient


# -- the properties --------------------------------------------------------------------------------


@given(any_row, any_row, divergences, dtypes)
def test_it_is_finite_not_negative_and_its_gradient_sums_to_zero(
    learner, teacher, divergence, dtype
):
    learner, teacher = rows(learner, dtype=dtype), rows(teacher, dtype=dtype)
    found, gradient = compute(divergence, learner, teacher)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all()
    if is_true(divergence):
        assert (found >= 0).all()
    if dtype == torch.float64:
        # A softmax does not see what is added to all logits, so no loss behind it may. Relative to
        # what is summed, which is 1e5 at most (LOG_ZERO).
        assert gradient.sum().abs() <= 1e-12 * max(1.0, gradient.abs().sum().item()) + 1e-9


@given(any_row, any_row, any_row, any_row, divergences, st.permutations(range(V)))
def test_the_order_of_types_and_other_rows_do_not_matter(p, q, other_p, other_q, divergence, order):
    """Where the k-th best is tied with the next, either may be taken: such rows are left out."""
    learner, teacher = rows(p), rows(q)
    if is_ambiguous(divergence, learner, teacher):
        return
    found, gradient = compute(divergence, learner, teacher)
    both = rows(p, other_p)[:, order], rows(q, other_q)[:, order]
    moved, moved_gradient = compute(divergence, *both)
    torch.testing.assert_close(moved[:1], found, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved_gradient[:1], gradient[:, order], rtol=1e-9, atol=1e-9)


def is_ambiguous(divergence, learner, teacher):
    """Whether types that the divergence tells apart have one probability, to rounding."""
    if isinstance(divergence, AdaptiveKL):
        return len(set(teacher[0].softmax(-1).round(decimals=12).tolist())) < V
    if divergence.top_k in (0, V):
        return False
    best = [row.log_softmax(-1).topk(divergence.top_k + 1).values[0] for row in (learner, teacher)]
    return any(row[-1] == row[-2] for row in best)


@given(any_row, divergences, dtypes)
def test_it_is_zero_at_equality_and_stationary_there(row, divergence, dtype):
    row = rows(row, dtype=dtype)
    found, gradient = compute(divergence, row, row)
    if isinstance(divergence, KLMixture):
        assert not found.any()
        if is_true(divergence):
            assert gradient.abs().max() <= 4 * torch.finfo(dtype).eps
    else:
        # Toward its ends JS is the difference of things as large as 1/β times their own rounding.
        small = 100 * torch.finfo(dtype).eps
        assert found <= small and gradient.abs().max() <= small


@given(usual, usual, divergences)
def test_it_is_zero_at_equality_only(learner, teacher, divergence):
    """Equality of what a restriction sees: of the k best tokens' probabilities."""
    learner, teacher = rows(learner), rows(teacher)
    found, _ = compute(divergence, learner, teacher)
    p, q = learner.softmax(-1), teacher.softmax(-1)
    seen = set(range(V))
    if divergence.top_k:
        shares = ((divergence.forward, q), (divergence.backward, p))
        seen = {
            y for share, x in shares if share for y in x.topk(divergence.top_k).indices[0].tolist()
        }
    # Pinsker and its like: a difference of 1e-3 in a probability is worth 1e-9 at the least.
    if is_true(divergence) and (p - q)[:, sorted(seen)].abs().max() > 1e-3:
        assert (found > 1e-10).all()


@given(finite, finite, divergences, st.floats(-100, 100, width=32))
def test_a_shift_of_all_logits_changes_nothing(learner, teacher, divergence, shift):
    learner, teacher = rows(learner), rows(teacher)
    if divergence.top_k or isinstance(divergence, AdaptiveKL):
        return  # what is nearly a tie may fall the other way
    found, _ = compute(divergence, learner, teacher)
    moved, _ = compute(divergence, learner + shift, teacher - shift)
    torch.testing.assert_close(moved, found, rtol=1e-9, atol=1e-8)


@given(usual, usual, kls, st.sampled_from([torch.float16, torch.bfloat16]))
def test_half_precision_is_finite_too(learner, teacher, divergence, dtype):
    logits = rows(learner, dtype=dtype).requires_grad_()
    # Softmaxes in float32, as torch 1.13 has none in float16 on a CPU.
    p, q = (x.float().log_softmax(-1).to(dtype) for x in (logits, rows(teacher, dtype=dtype)))
    found = values(divergence, p, q)
    found.sum().backward()
    assert torch.isfinite(found).all() and torch.isfinite(logits.grad).all()
    if is_true(divergence):
        assert (found >= 0).all()


@given(usual, usual, st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_symmetries(learner, teacher, first, second):
    """Exchanging p and q exchanges β for 1 − β, α for β, and one skewed KL for the other."""
    p, q = (rows(row).log_softmax(-1) for row in (learner, teacher))
    for one, other in (
        (FORWARD_KL, BACKWARD_KL),
        (JensenShannon(first), JensenShannon(1 - first)),
        (AlphaBeta(first, second), AlphaBeta(second, first)),
        (SkewForwardKL(first), SkewBackwardKL(first)),
        (TotalVariation(), TotalVariation()),
    ):
        torch.testing.assert_close(values(one, p, q), values(other, q, p), rtol=1e-8, atol=1e-10)
