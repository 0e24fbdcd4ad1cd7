"""The divergences beside the KLs: a second implementation, limits, properties, others' code."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.distribution import Distribution
from ka_fairseq.loss.divergences import (
    BACKWARD_KL,
    FORWARD_KL,
    AdaptiveKL,
    AlphaBeta,
    JensenShannon,
    SkewBackwardKL,
    SkewForwardKL,
    TotalVariation,
    adaptive_kl,
    divergence_named,
    values,
)
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection

V = 12

# -- the reference: one row and one type at a time, in probabilities, by floats --------------------


def kl(a, b):
    return math.fsum(x * math.log(x / y) for x, y in zip(a, b, strict=True) if x > 0)


def mixture(share, a, b):
    return [share * x + (1 - share) * y for x, y in zip(a, b, strict=True)]


def js(p, q, beta):
    m = mixture(beta, q, p)
    return (1 / (beta * (1 - beta)) - 3) * (beta * kl(q, m) + (1 - beta) * kl(p, m))


def alpha_beta(p, q, a, b):
    pairs = list(zip(p, q, strict=True))
    if a == 0:
        return math.fsum(b * x**b * math.log(x / y) - x**b + y**b for x, y in pairs) / b**2
    if b == 0:
        return alpha_beta(q, p, 0, a)
    s = a + b
    terms = (a / s * y**s + b / s * x**s - y**a * x**b for x, y in pairs)
    return math.fsum(terms) / (a * b)


def akl_share(p, q, mass):
    order = sorted(range(len(q)), key=lambda y: -q[y])
    head, held = [order[0]], q[order[0]]
    for y in order[1:]:
        held += q[y]
        if held > mass:
            break
        head.append(y)
    gaps = [abs(x - y) for x, y in zip(p, q, strict=True)]
    return math.fsum(gaps[y] for y in head) / math.fsum(gaps)


def akl(p, q, mass):
    share = akl_share(p, q, mass)
    return share * kl(q, p) + (1 - share) * kl(p, q)


REFERENCES = [
    *((JensenShannon(b), lambda p, q, b=b: js(p, q, b)) for b in (0.5, 0.1, 0.9, 1e-3)),
    (JensenShannon(0.0), lambda p, q: kl(q, p)),
    (JensenShannon(1.0), lambda p, q: kl(p, q)),
    *((SkewForwardKL(a), lambda p, q, a=a: kl(q, mixture(a, q, p))) for a in (0.0, 0.1, 0.7)),
    *((SkewBackwardKL(a), lambda p, q, a=a: kl(p, mixture(a, p, q))) for a in (0.0, 0.1, 0.7)),
    (TotalVariation(), lambda p, q: sum(abs(x - y) for x, y in zip(p, q, strict=True)) / 2),
    *(
        (AlphaBeta(a, b), lambda p, q, a=a, b=b: alpha_beta(p, q, a, b))
        for a, b in ((0.5, 0.5), (0.2, 0.7), (1, 0), (0, 1), (0.3, 0), (0, 0.3), (2, 1.5))
    ),
    *((AdaptiveKL(mass), lambda p, q, m=mass: akl(p, q, m)) for mass in (0.5, 0.05, 0.95)),
]
NAMES = [repr(divergence) for divergence, _ in REFERENCES]
every_divergence = pytest.mark.parametrize(("divergence", "reference"), REFERENCES, ids=NAMES)
SMOOTH = [d for d, _ in REFERENCES if not isinstance(d, AdaptiveKL)]  # with a gradient of the value


def random_lprobs(rows=6, vocabulary=V, scale=2.5, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, rows, vocabulary, generator=generator, dtype=torch.float64) * scale
    return logits.to(dtype).log_softmax(-1)


@every_divergence
def test_equals_the_float64_reference(divergence, reference):
    p, q = random_lprobs()
    expected = [reference(*row) for row in zip(p.exp().tolist(), q.exp().tolist(), strict=True)]
    np.testing.assert_allclose(values(divergence, p, q).numpy(), expected, rtol=1e-9, atol=1e-12)
    single = values(divergence, p.float(), q.float())
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected, rtol=5e-5, atol=5e-6)


def test_by_hand():
    """p = (½, ¼, ¼) and q = (¼, ½, ¼)."""
    p, q = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.5, 0.25]]).log()
    ln2, ln3 = math.log(2), math.log(3)
    found = {name: values(divergence_named(name), p, q).item() for name in ("js", "tvd")}
    assert found["tvd"] == pytest.approx(0.25)
    assert found["js"] == pytest.approx(0.5 * math.log(4 / 3) + 0.25 * math.log(2 / 3))
    assert found["js"] == pytest.approx(1.25 * ln2 - 0.75 * ln3)
    hellinger = values(AlphaBeta(), p, q).item()
    assert hellinger == pytest.approx(4 * (math.sqrt(0.5) - 0.5) ** 2)
    # The head is type 1 alone, which has half of the gap; both KLs are the same here.
    assert values(AdaptiveKL(), p, q).item() == pytest.approx(0.25 * ln2)


@pytest.mark.parametrize("divergence", SMOOTH, ids=map(repr, SMOOTH))
def test_gradcheck(divergence):
    logits, teacher = random_lprobs(3, seed=2)
    assert torch.autograd.gradcheck(
        lambda z: values(divergence, z.log_softmax(-1), teacher), (logits.requires_grad_(),)
    )


def test_the_weights_of_adaptive_kl_are_no_part_of_its_gradient():
    logits, teacher = random_lprobs(4, seed=3)
    lprobs = logits.requires_grad_().log_softmax(-1)
    (found,) = torch.autograd.grad(values(AdaptiveKL(), lprobs, teacher).sum(), logits)
    rows = zip(lprobs.exp().tolist(), teacher.exp().tolist(), strict=True)
    share = torch.tensor([akl_share(*row, 0.5) for row in rows], dtype=torch.float64)
    lprobs = logits.log_softmax(-1)
    forward, backward = (values(d, lprobs, teacher) for d in (FORWARD_KL, BACKWARD_KL))
    (expected,) = torch.autograd.grad((share * forward + (1 - share) * backward).sum(), logits)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale", [0.3, 3.0])
@pytest.mark.parametrize("mass", [0.5, 0.9])
def test_a_head_beyond_the_usual_ones_is_found_too(scale, mass, monkeypatch):
    """Flat teachers need more types for their head than are looked at first."""
    p, q = (Distribution(lprobs) for lprobs in random_lprobs(8, 700, scale))
    found = adaptive_kl.head_share(p, q, mass)
    expected = [
        akl_share(*row, mass) for row in zip(p.probs.tolist(), q.probs.tolist(), strict=True)
    ]
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)
    monkeypatch.setattr(adaptive_kl, "USUAL_HEADS", ())
    torch.testing.assert_close(adaptive_kl.head_share(p, q, mass), found)


# -- limits: where a member of the family becomes another ------------------------------------------

LIMITS = [
    *((JensenShannon(b), FORWARD_KL) for b in (1e-12, 1e-6)),
    *((JensenShannon(1 - b), BACKWARD_KL) for b in (1e-12, 1e-6)),
    (SkewForwardKL(1e-6), FORWARD_KL),
    (SkewBackwardKL(1e-6), BACKWARD_KL),
    (AlphaBeta(1, 0), FORWARD_KL),
    (AlphaBeta(0, 1), BACKWARD_KL),
    (AlphaBeta(0.99, 0.01), FORWARD_KL),
    (AlphaBeta(0.01, 0.99), BACKWARD_KL),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("near", "limit"), LIMITS, ids=[repr(near) for near, _ in LIMITS])
def test_the_ends_meet_the_two_kls(near, limit, dtype):
    """In value and in gradient; float32 has digits enough for it."""
    logits, teacher = random_lprobs(dtype=dtype, scale=1.0)
    results = []
    for divergence in (near, limit):
        leaf = logits.clone().requires_grad_()
        found = values(divergence, leaf.log_softmax(-1), teacher)
        results.append((found.detach(), torch.autograd.grad(found.sum(), leaf)[0]))
    tolerance = 0.05 if isinstance(near, AlphaBeta) else 1e-3
    torch.testing.assert_close(*results, rtol=tolerance, atol=tolerance / 10)


def test_plain_js_at_a_half_is_bounded_by_log_2():
    p, q = torch.tensor([[60.0, 0, 0], [0, 0, 0]]), torch.tensor([[0, 60.0, 0], [0, 0, 0.0]])
    found = values(JensenShannon(), p.log_softmax(-1), q.log_softmax(-1))
    torch.testing.assert_close(found, torch.tensor([math.log(2), 0.0]))


# -- properties ------------------------------------------------------------------------------------

usual = st.lists(st.floats(-20, 20, width=32), min_size=5, max_size=5)
extreme = st.lists(st.sampled_from([0.0, 1e4, -1e4, 30.0, -math.inf]), min_size=4, max_size=4)
any_row = st.one_of(usual, extreme.map(lambda row: [0.0, *row]))
share = st.floats(0, 1)
exponent = st.one_of(st.just(0.0), st.floats(0.02, 2))
divergences = st.one_of(
    st.builds(JensenShannon, share),
    st.builds(SkewForwardKL, st.floats(0, 0.99)),
    st.builds(SkewBackwardKL, st.floats(0, 0.99)),
    st.just(TotalVariation()),
    st.tuples(exponent, exponent).filter(any).map(lambda pair: AlphaBeta(*pair)),
    st.builds(AdaptiveKL, st.floats(0.01, 0.99)),
)
dtypes = st.sampled_from([torch.float32, torch.float64])


def compute(divergence, learner, teacher):
    logits = torch.as_tensor(learner).clone().requires_grad_()
    found = values(divergence, logits.log_softmax(-1), torch.as_tensor(teacher).log_softmax(-1))
    (gradient,) = torch.autograd.grad(found.sum(), logits)
    return found.detach(), gradient


@settings(max_examples=300, deadline=None)
@given(any_row, any_row, divergences, dtypes)
def test_finite_not_negative_and_blind_to_shifts(learner, teacher, divergence, dtype):
    learner, teacher = (torch.tensor([row], dtype=dtype) for row in (learner, teacher))
    found, gradient = compute(divergence, learner, teacher)
    assert torch.isfinite(found).all() and torch.isfinite(gradient).all() and found >= 0
    if dtype == torch.float64:
        # A softmax does not see what is added to all logits, so no loss behind it may.
        assert gradient.sum().abs() <= 1e-12 * max(1, gradient.abs().sum().item()) + 1e-9


@settings(max_examples=200, deadline=None)
@given(any_row, divergences, dtypes)
def test_zero_and_stationary_at_equality(row, divergence, dtype):
    row = torch.tensor([row], dtype=dtype)
    found, gradient = compute(divergence, row, row)
    # Toward its ends JS is the difference of things as large as c = 1/β times their own rounding.
    small = 100 * torch.finfo(dtype).eps
    assert found <= small and gradient.abs().max() <= small


@settings(max_examples=200, deadline=None)
@given(usual, usual, divergences)
def test_zero_at_equality_only(learner, teacher, divergence):
    learner, teacher = (torch.tensor([row], dtype=torch.float64) for row in (learner, teacher))
    found, _ = compute(divergence, learner, teacher)
    if (learner.softmax(-1) - teacher.softmax(-1)).abs().max() > 1e-3:
        assert found > 1e-10


@settings(max_examples=100, deadline=None)
@given(usual, usual, divergences, st.permutations(range(5)))
def test_the_order_of_types_and_other_rows_do_not_matter(learner, teacher, divergence, order):
    learner, teacher = (torch.tensor([row], dtype=torch.float64) for row in (learner, teacher))
    # Logits that differ may still be one probability, to rounding.
    different = set(teacher[0].softmax(-1).round(decimals=12).tolist())
    if isinstance(divergence, AdaptiveKL) and len(different) < 5:
        return  # of types that are the same to the teacher any may be in the head
    found, gradient = compute(divergence, learner, teacher)
    both = [torch.cat([x[:, order], torch.zeros(1, 5).double()]) for x in (learner, teacher)]
    moved, moved_gradient = compute(divergence, *both)
    torch.testing.assert_close(moved[:1], found, rtol=1e-9, atol=1e-10)
    torch.testing.assert_close(moved_gradient[:1], gradient[:, order], rtol=1e-9, atol=1e-10)


@settings(max_examples=100, deadline=None)
@given(usual, usual, st.floats(0.05, 0.95), st.floats(0.05, 0.95))
def test_symmetries(learner, teacher, first, second):
    """Exchanging p and q exchanges β for 1 − β, α for β, and one skewed KL for the other."""
    p, q = (torch.tensor([row], dtype=torch.float64).log_softmax(-1) for row in (learner, teacher))
    for one, other in (
        (JensenShannon(first), JensenShannon(1 - first)),
        (AlphaBeta(first, second), AlphaBeta(second, first)),
        (SkewForwardKL(first), SkewBackwardKL(first)),
        (TotalVariation(), TotalVariation()),
    ):
        torch.testing.assert_close(values(one, p, q), values(other, q, p), rtol=1e-8, atol=1e-10)


# -- in the loss -----------------------------------------------------------------------------------

DEFAULTS = ("js", "skew_forward_kl", "skew_backward_kl", "tvd", "alpha_beta", "adaptive_kl")


def loss_and_gradients(divergence, rows_per_chunk, temperature, kernel="eager"):
    generator = torch.Generator().manual_seed(5)
    learner, teacher = (
        Projection(
            *(
                torch.randn(size, generator=generator, dtype=torch.float64).requires_grad_()
                for size in ((9, width), (V, width), (V,))
            )
        )
        for width in (4, 5)
    )
    objective = Objective(divergence, 0.4, 0.1, temperature=temperature)
    losses = transfer_loss(
        learner, TeacherOutput([teacher]), torch.arange(9) % V, objective, rows_per_chunk, kernel
    )
    return losses, torch.autograd.grad(losses.loss, learner.inputs), learner, teacher


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("name", DEFAULTS)
def test_chunks_change_nothing_and_temperature_softens_both(name, temperature):
    divergence = divergence_named(name)
    whole, of_whole, learner, teacher = loss_and_gradients(divergence, 100, temperature)
    parts, of_parts, *_ = loss_and_gradients(divergence, 2, temperature)
    torch.testing.assert_close(whole, parts)
    torch.testing.assert_close(of_whole, of_parts)
    lprobs = [
        ((x.hidden @ x.weight.T + x.bias) / temperature).log_softmax(-1).detach()
        for x in (learner, teacher)
    ]
    expected = values(divergence, *lprobs).sum() * temperature**2
    torch.testing.assert_close(whole.transfer_loss, expected)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch, "compile"), reason="torch 1 has no compiler")
@pytest.mark.parametrize("name", ["js", "alpha_beta"])
def test_compiled_is_the_same(name):
    plain, of_plain, *_ = loss_and_gradients(divergence_named(name), 4, 1.0)
    fused, of_fused, *_ = loss_and_gradients(divergence_named(name), 4, 1.0, kernel="compiled")
    torch.testing.assert_close(fused, plain)
    torch.testing.assert_close(of_fused, of_plain)


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: JensenShannon(1.1), "js_beta must lie between 0 and 1, not 1.1"),
        (lambda: JensenShannon(math.nan), "js_beta must lie between 0 and 1, not nan"),
        (lambda: SkewForwardKL(1.0), r"skew_alpha must lie in \[0, 1\), not 1.0"),
        (lambda: AlphaBeta(-1, 1), "ab_alpha must be 0, or lie between 0.01 and 10, not -1"),
        (lambda: AlphaBeta(1, 1e-4), "ab_beta must be 0, or lie between 0.01 and 10, not 0.0001"),
        (lambda: AlphaBeta(0, 0), "must not both be 0"),
        (lambda: AdaptiveKL(0), "akl_head must lie between 0 and 1, not 0"),
        (lambda: FORWARD_KL.configured(js_beta=1), "js_beta is no option of it; it takes none"),
        (lambda: JensenShannon().restricted(8, "tail"), "sums over the whole vocabulary"),
    ],
)
def test_what_cannot_be(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_options_make_another_of_the_same():
    assert divergence_named("js").configured(js_beta=0.2) == JensenShannon(0.2)
    assert divergence_named("alpha_beta").configured(ab_beta=0.9) == AlphaBeta(0.5, 0.9)
    assert divergence_named("js") == JensenShannon(0.5)


# -- other people's --------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_js_is_trls(beta, temperature):
    """TRL leaves the ends' factor out between them, and τ² altogether."""
    trl = pytest.importorskip("trl.experimental.gkd", reason="needs trl")
    theirs = trl.GKDTrainer.generalized_jsd_loss
    p, q = random_lprobs()
    softened = [(x / temperature).log_softmax(-1) for x in (p, q)]
    scale = 1.0 if beta in (0, 1) else 1 / (beta * (1 - beta)) - 3
    expected = theirs(
        p.unsqueeze(0), q.unsqueeze(0), beta=beta, temperature=temperature, reduction="sum"
    )
    found = values(JensenShannon(beta), *softened).sum() / scale
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_js_is_ligers():
    """At β = ½: elsewhere a release that was read has the mixture's shares the other way round."""
    liger = pytest.importorskip("liger_kernel.chunked_loss.jsd_loss", reason="needs liger-kernel")
    p, q = random_lprobs()
    expected = liger.LigerFusedLinearJSDFunction.distillation_loss_fn(p, q, beta=0.5)
    expected = expected[0] if isinstance(expected, tuple) else expected
    found = values(JensenShannon(), p, q).sum()
    assert found.item() == pytest.approx(expected.sum().item(), rel=1e-6)
