"""Products of half-precision factors are added up in float32."""

import pytest
import torch

from ka_fairseq.loss import matmul

HALF = [torch.float16, torch.bfloat16]


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
    gradient = torch.randn(8, 8, generator=torch.Generator().manual_seed(2)) * size
    rounded, unscale = matmul.gradient_factor(gradient, dtype)
    assert rounded.dtype == dtype and torch.isfinite(rounded).all()
    torch.testing.assert_close(
        unscaled(rounded, unscale), gradient, rtol=torch.finfo(dtype).eps, atol=size * 1e-3
    )


@pytest.mark.parametrize("dtype", HALF)
def test_no_gradient_stays_none(dtype):
    rounded, unscale = matmul.gradient_factor(torch.zeros(2, 2), dtype)
    assert not unscaled(rounded, unscale).any()


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", HALF)
def test_a_gpu_multiplies_without_widening(dtype):
    a = torch.randn(32, 64, device="cuda").to(dtype)
    assert matmul.factor(a).dtype == dtype
    result = matmul.product(a, a.T)
    torch.testing.assert_close(result.double(), a.double() @ a.double().T, rtol=1e-4, atol=1e-4)
