"""The divergences beside the KLs: a second implementation, limits, others' code."""

import math

import numpy as np
import pytest
import torch

from ka_fairseq.loss.divergences import BACKWARD_KL, FORWARD_KL, divergence_named, values
from ka_fairseq.loss.divergences.adaptive_kl import AdaptiveKL
from ka_fairseq.loss.divergences.alpha_beta import AlphaBeta
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.divergences.skew_kl import SkewBackwardKL, SkewForwardKL
from ka_fairseq.loss.divergences.total_variation import TotalVariation
from tests.support import random_lprobs

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
]
NAMES = [repr(divergence) for divergence, _ in REFERENCES]
every_divergence = pytest.mark.parametrize(("divergence", "reference"), REFERENCES, ids=NAMES)


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


@every_divergence
def test_gradcheck(divergence, reference):
    logits, teacher = random_lprobs(3, seed=2)
    assert torch.autograd.gradcheck(
        lambda z: values(divergence, z.log_softmax(-1), teacher), (logits.requires_grad_(),)
    )


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


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: JensenShannon(1.1), "--js-beta must lie between 0 and 1, not 1.1"),
        (lambda: JensenShannon(math.nan), "--js-beta must lie between 0 and 1, not nan"),
        (lambda: SkewForwardKL(1.0), r"--skew-alpha must lie in \[0, 1\), not 1.0"),
        (lambda: AlphaBeta(-1, 1), "--ab-alpha must be 0, or lie between 0.01 and 10, not -1"),
        (lambda: AlphaBeta(1, 1e-4), "--ab-beta must be 0, or lie between 0.01 and 10, not 0.0001"),
        (lambda: AlphaBeta(0, 0), "must not both be 0"),
        (lambda: AdaptiveKL(0), r"--akl-head must lie in \(0, 1\), not 0"),
        (
            lambda: FORWARD_KL.configured(js_beta=1),
            "unknown option js_beta; this divergence takes none",
        ),
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


@pytest.mark.extended
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


@pytest.mark.extended
def test_js_is_ligers():
    """At β = ½: elsewhere a release that was read has the mixture's shares the other way round."""
    liger = pytest.importorskip("liger_kernel.chunked_loss.jsd_loss", reason="needs liger-kernel")
    p, q = random_lprobs()
    expected = liger.LigerFusedLinearJSDFunction.distillation_loss_fn(p, q, beta=0.5)
    expected = expected[0] if isinstance(expected, tuple) else expected
    found = values(JensenShannon(), p, q).sum()
    assert found.item() == pytest.approx(expected.sum().item(), rel=1e-6)
