"""Products of half-precision factors are added up in float32."""

import pytest
import torch

from ka_fairseq.loss import matmul
from ka_fairseq.loss.projection import Projection

HALF = [torch.float16, torch.bfloat16]


def randn(*size, seed=2):
    return torch.randn(size, generator=torch.Generator().manual_seed(seed))


def unscaled(rounded, unscale):
    return rounded.float() if unscale is None else rounded.float() * unscale


@pytest.mark.parametrize("dtype", [*HALF, torch.float32, torch.float64])
def test_a_product_is_not_rounded_to_its_factors_precision(dtype):
    generator = torch.Generator().manual_seed(1)
    a, b = (torch.randn(s, generator=generator).to(dtype) for s in ((5, 300), (300, 4)))
    result = matmul.product(matmul.factor(a), matmul.factor(b))
    assert result.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(result.double(), a.double() @ b.double(), rtol=1e-5, atol=1e-5)


def test_adding_reads_what_is_there_or_not():
    a, b = torch.ones(2, 3), torch.ones(3, 2)
    into = torch.ones(2, 2)
    matmul.add_product(into, a, b)
    assert into.tolist() == [[4, 4], [4, 4]]
    into.fill_(torch.nan)
    matmul.add_product(into, a, b, keep=False)
    assert into.tolist() == [[3, 3], [3, 3]]


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("size", [1e-9, 1.0, 1e7])
def test_a_gradient_survives_half_precision(dtype, size):
    gradient, hidden = randn(8, 8) * size, randn(8, 5).to(dtype)
    made = matmul.gradient_factors(gradient, hidden)
    assert made.of_logits.dtype == made.hidden.dtype == dtype
    close = {"rtol": torch.finfo(dtype).eps, "atol": size * 1e-3}
    torch.testing.assert_close(unscaled(made.of_logits, made.unscale_rows), gradient, **close)
    both = made.of_logits.float().unsqueeze(-1) * made.hidden.float().unsqueeze(-2)
    expected = gradient.unsqueeze(-1) * hidden.float().unsqueeze(-2)
    torch.testing.assert_close(unscaled(both, made.unscale), expected, **close)


@pytest.mark.parametrize("dtype", HALF)
def test_no_gradient_stays_none(dtype):
    made = matmul.gradient_factors(torch.zeros(2, 2), torch.ones(2, 3, dtype=dtype))
    assert not unscaled(made.of_logits, made.unscale_rows).any()
    assert not unscaled(made.of_logits.T.float() @ made.hidden.float(), made.unscale).any()


@pytest.fixture
def half_products(monkeypatch):
    """A CPU that multiplies half-precision factors into float32, as a GPU does."""

    def mm(a, b, out_dtype=None, out=None, real=torch.mm):
        return real(a.to(out_dtype or a.dtype), b.to(out_dtype or b.dtype), out=out)

    monkeypatch.setattr(torch, "mm", mm)
    monkeypatch.setattr(matmul, "multiplies_into_float32", lambda device: True)


def gradients(of_logits, hidden, weight):
    """As the loss makes them, in two chunks of one row and the rest."""
    output = Projection(hidden, weight, None).prepare()
    into = [torch.empty(tensor.shape) for tensor in (hidden, weight)] + [None]
    for rows in (slice(0, 1), slice(1, len(hidden))):
        output.add_gradients(rows, of_logits[rows], into)
    return into[:2]


def test_a_small_row_beside_a_large_one_is_not_lost_in_float16(half_products):
    """5e4 beside 1.25e-6 of another row, at another token, and hidden states of any size."""
    of_logits = torch.zeros(4, 6)
    of_logits[1, 0], of_logits[2, 3], of_logits[3, 4] = 5e4, 1.25e-6, 0.3
    hidden = (randn(4, 5) * torch.tensor([[1.0], [3e3], [1.0], [1e-2]])).half()
    weight = randn(6, 5, seed=3).half()
    of_hidden, of_weight = gradients(of_logits, hidden, weight)
    exact = of_logits.double() @ weight.double(), of_logits.double().T @ hidden.double()
    rounding = {"rtol": 2 * torch.finfo(torch.float16).eps, "atol": 0}
    torch.testing.assert_close(of_hidden.double(), exact[0], **rounding)
    torch.testing.assert_close(of_weight.double(), exact[1], **rounding)


@pytest.mark.parametrize("overflow", [torch.inf, torch.nan])
def test_the_loss_scaler_sees_an_overflow(half_products, overflow):
    of_logits = randn(4, 6)
    of_logits[2, 3] = overflow
    for gradient in gradients(of_logits, randn(4, 5).half(), randn(6, 5).half()):
        assert not torch.isfinite(gradient).all()


def test_a_power_of_two_is_exact_and_has_an_end():
    exponents = torch.tensor([-130, -126, -1, 0, 10, 127, 300], dtype=torch.int32)
    expected = [2.0**e for e in (-126, -126, -1, 0, 10, 127, 127)]
    assert matmul.power_of_two(exponents).tolist() == expected


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALF)
def test_a_gpu_multiplies_without_widening(dtype):
    a = torch.randn(32, 64, device="cuda").to(dtype)
    assert matmul.factor(a).dtype == dtype
    result = matmul.product(a, a.T)
    torch.testing.assert_close(result.double(), a.double() @ a.double().T, rtol=1e-4, atol=1e-4)
