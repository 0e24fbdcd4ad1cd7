"""What holds of the divergences for any logits, the worst included; checked through hypothesis.

test_divergences.py has the values; this file needs none.
"""

import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ka_fairseq.loss.divergences import TOP_K_FORMS, backward_kl, forward_kl, jsd_mixture

V = 7
DIVERGENCES = (forward_kl, backward_kl, jsd_mixture)
NEVER_NEGATIVE = ("generalized", "tail")
EXAMPLES = 300

# -- adversarial rows of logits --------------------------------------------------------------------

anything = st.lists(st.floats(-1e4, 1e4, width=32), min_size=V, max_size=V)
# Few values, so that most are ties; far apart, or closer than rounding.
ties = st.lists(st.sampled_from([0.0, 1e4, -1e4, 1e-30]), min_size=V, max_size=V)
one_hot = st.integers(0, V - 1).map(lambda best: [1e4 if y == best else -1e4 for y in range(V)])
tiny = st.lists(st.floats(-1e-20, 1e-20), min_size=V, max_size=V)
usual = st.lists(st.floats(-20, 20, width=32), min_size=V, max_size=V)
finite = st.one_of(usual, anything, ties, one_hot, tiny)


def ruled_out(row, tokens):
    """Probability 0 for some tokens; the first one stays."""
    return [-math.inf if y in tokens and y else logit for y, logit in enumerate(row)]


with_zeros = st.builds(ruled_out, usual, st.sets(st.integers(0, V - 1)))
any_row = st.one_of(finite, with_zeros)

restriction = st.tuples(st.integers(0, V), st.sampled_from(TOP_K_FORMS))
divergences = st.sampled_from(DIVERGENCES)
dtypes = st.sampled_from([torch.float32, torch.float64])
halves = st.sampled_from([torch.float16, torch.bfloat16])


def rows(*logits, dtype=torch.float64):
    return torch.tensor(logits, dtype=dtype)


def compute(divergence, learner, teacher, top_k, form):
    """The value of each row, and the gradient of the learner's logits."""
    logits = learner.clone().requires_grad_()
    values = divergence(
        logits.log_softmax(-1), teacher.log_softmax(-1), top_k=top_k, top_k_form=form
    )
    values.sum().backward()
    return values.detach(), logits.grad


# -- the properties --------------------------------------------------------------------------------


@settings(max_examples=EXAMPLES, deadline=None)
@given(any_row, any_row, restriction, divergences, dtypes)
def test_finite_and_the_value_not_negative(learner, teacher, restriction, divergence, dtype):
    top_k, form = restriction
    learner, teacher = rows(learner, dtype=dtype), rows(teacher, dtype=dtype)
    values, gradient = compute(divergence, learner, teacher, top_k, form)
    assert torch.isfinite(values).all() and torch.isfinite(gradient).all()
    if form in NEVER_NEGATIVE or top_k in (0, V):
        assert (values >= 0).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(any_row, any_row, restriction, divergences)
def test_the_gradient_sums_to_zero_over_the_logits(learner, teacher, restriction, divergence):
    """A softmax does not see what is added to all logits, so no loss behind it may."""
    _, gradient = compute(divergence, rows(learner), rows(teacher), *restriction)
    # In float64; relative to what is summed, which is 1e5 at most (LOG_ZERO).
    assert gradient.sum().abs() <= 1e-12 * max(1.0, gradient.abs().sum().item()) + 1e-9


@settings(max_examples=EXAMPLES, deadline=None)
@given(any_row, any_row, restriction, divergences, st.permutations(range(V)))
def test_the_order_of_types_does_not_matter(learner, teacher, restriction, divergence, order):
    """Where the k-th best is tied with the next, either may be taken: such rows are left out."""
    top_k, form = restriction
    learner, teacher = rows(learner), rows(teacher)
    if top_k not in (0, V) and any(tied(row, top_k) for row in (learner, teacher)):
        top_k = 0
    values, gradient = compute(divergence, learner, teacher, top_k, form)
    moved, moved_gradient = compute(divergence, learner[:, order], teacher[:, order], top_k, form)
    torch.testing.assert_close(moved, values, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(moved_gradient, gradient[:, order], rtol=1e-9, atol=1e-9)


def tied(row, top_k):
    best = row.log_softmax(-1).topk(top_k + 1).values[0]
    return best[-1] == best[-2]


@settings(max_examples=EXAMPLES, deadline=None)
@given(any_row, restriction, divergences, dtypes)
def test_zero_at_equality_and_stationary_there(row, restriction, divergence, dtype):
    top_k, form = restriction
    values, gradient = compute(
        divergence, rows(row, dtype=dtype), rows(row, dtype=dtype), *restriction
    )
    assert not values.any()
    if form in NEVER_NEGATIVE or top_k in (0, V):
        assert gradient.abs().max() <= 4 * torch.finfo(dtype).eps


@settings(max_examples=EXAMPLES, deadline=None)
@given(usual, usual, restriction, divergences)
def test_zero_at_equality_only(learner, teacher, restriction, divergence):
    """Equality of what the restriction sees: for top k, of the k best tokens' probabilities."""
    top_k, form = restriction
    learner, teacher = rows(learner), rows(teacher)
    values, _ = compute(divergence, learner, teacher, top_k, form)
    p, q = learner.softmax(-1), teacher.softmax(-1)
    if form in NEVER_NEGATIVE or top_k in (0, V):
        seen = set()
        for ranking, orders in ((q, (forward_kl, jsd_mixture)), (p, (backward_kl, jsd_mixture))):
            if divergence in orders:
                seen |= set(ranking.topk(top_k or V).indices[0].tolist())
        seen = sorted(seen)
        # Pinsker and its like: a difference of 1e-4 in a probability is worth 1e-9 at the least.
        if (p - q)[:, seen].abs().max() > 1e-4:
            assert (values > 1e-10).all()


@settings(max_examples=EXAMPLES, deadline=None)
@given(any_row, any_row, any_row, any_row, restriction, divergences)
def test_a_row_does_not_see_its_neighbours(p, q, other_p, other_q, restriction, divergence):
    together, gradient = compute(divergence, rows(p, other_p), rows(q, other_q), *restriction)
    alone, own_gradient = compute(divergence, rows(p), rows(q), *restriction)
    torch.testing.assert_close(together[:1], alone)
    torch.testing.assert_close(gradient[:1], own_gradient)


@settings(max_examples=EXAMPLES, deadline=None)
@given(finite, finite, restriction, divergences, st.floats(-100, 100, width=32))
def test_a_shift_of_all_logits_changes_nothing(learner, teacher, restriction, divergence, shift):
    learner, teacher = rows(learner), rows(teacher)
    values, _ = compute(divergence, learner, teacher, 0, restriction[1])
    moved, _ = compute(divergence, learner + shift, teacher - shift, 0, restriction[1])
    torch.testing.assert_close(moved, values, rtol=1e-9, atol=1e-8)


@settings(max_examples=EXAMPLES, deadline=None)
@given(usual, usual, st.integers(0, V), divergences, halves)
def test_half_precision_is_finite_too(learner, teacher, top_k, divergence, dtype):
    for form in NEVER_NEGATIVE:
        logits = rows(learner, dtype=dtype).requires_grad_()
        # Softmaxes in float32, as torch 1.13 has none in float16 on a CPU.
        p, q = (x.float().log_softmax(-1).to(dtype) for x in (logits, rows(teacher, dtype=dtype)))
        values = divergence(p, q, top_k=top_k, top_k_form=form)
        values.sum().backward()
        assert torch.isfinite(values).all() and (values >= 0).all()
        assert torch.isfinite(logits.grad).all()
