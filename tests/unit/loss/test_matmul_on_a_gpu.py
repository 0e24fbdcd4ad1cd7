"""Which precision is multiplied in, on a GPU that is not there."""

# ruff: noqa: E402  an older torch has not what follows

import logging

import pytest

backends = pytest.importorskip("torch.utils.backend_registration")
if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch has no backends in Python", allow_module_level=True)

import torch

from ka_fairseq.loss import chunked, matmul, projection
from ka_fairseq.loss.divergences import BACKWARD_KL
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection
from tests import fake_gpu as fake

HALF = [torch.float16, torch.bfloat16]


@pytest.fixture
def multiplied(monkeypatch):
    """The precisions of the factors of all products."""
    found = []
    product = matmul.product

    def watched(a, b, out=None):
        found.append((a.dtype, b.dtype))
        return product(a, b, out)

    for module in (matmul, projection):
        monkeypatch.setattr(module, "product", watched)
    return found


def step(of_hidden, of_weight):
    def output():
        dtypes = ((5, 4, of_hidden), (9, 4, of_weight))
        return Projection(
            *(
                torch.empty(n, m, dtype=d, device=fake.DEVICE).requires_grad_()
                for n, m, d in dtypes
            ),
            None,
        )

    teacher = TeacherOutput([output()])
    targets = torch.empty(5, dtype=torch.int64, device=fake.DEVICE)
    learner = output()
    chunked.transfer_loss(learner, teacher, targets, Objective(BACKWARD_KL, 0.5)).loss.backward()
    assert learner.weight.grad.dtype == of_weight and learner.hidden.grad.dtype == of_hidden


@pytest.mark.parametrize("dtype", HALF)
def test_half_features_beside_wide_weights_stay_on_the_tensor_cores(multiplied, dtype):
    with fake.fake_gpu(5):
        step(dtype, torch.float32)
    assert len(multiplied) == 4  # both logits, both gradients
    assert set(multiplied) == {(dtype, dtype)}


@pytest.mark.parametrize("dtype", HALF)
def test_under_autocast_the_learner_is_rounded_and_the_teacher_is_not(
    multiplied, monkeypatch, dtype
):
    """Its features are wide, too, after a layer norm, which autocast leaves in float32."""
    monkeypatch.setattr(chunked, "autocast_dtype", lambda device: dtype)
    with fake.fake_gpu(5):
        step(torch.float32, torch.float32)
    wide = (torch.float32, torch.float32)
    assert multiplied.count(wide) == 1 and set(multiplied) == {wide, (dtype, dtype)}


def test_wide_models_stay_wide(multiplied):
    with fake.fake_gpu(5):
        step(torch.float32, torch.float32)
    assert set(multiplied) == {(torch.float32, torch.float32)}


def test_on_a_cpu_the_narrower_one_is_widened():
    narrow, wide = torch.randn(3, 4).half(), torch.randn(5, 4)
    factors = matmul.factors(narrow, wide, None)
    assert torch.equal(factors[0], narrow.float()) and torch.equal(factors[1], wide)
    halves = matmul.factors(narrow, wide.bfloat16(), None)
    assert {factor.dtype for factor in halves} == {torch.float32}


def test_there_is_no_autocast_beside_cuda():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert matmul.autocast_dtype(torch.device("cpu")) is None
        assert matmul.autocast_dtype(torch.device("cuda")) is None  # it is the CPU's


def test_a_torch_that_multiplies_in_float32_says_so(monkeypatch, caplog):
    def as_before_torch_2_8(*arguments, **options):
        raise TypeError("mm() got an unexpected keyword argument 'out_dtype'")

    real = {name: getattr(torch, name) for name in ("ones", "zeros")}
    for name, make in real.items():  # there is no such device here
        monkeypatch.setattr(torch, name, lambda *s, device, make=make, **o: make(*s, **o))
    monkeypatch.setattr(torch, "mm", as_before_torch_2_8)
    matmul.multiplies_into_float32.cache_clear()
    with caplog.at_level(logging.WARNING):
        assert not matmul.multiplies_into_float32(torch.device("cuda", 7))
        assert not matmul.multiplies_into_float32(torch.device("cuda", 7))
    matmul.multiplies_into_float32.cache_clear()
    (said,) = caplog.messages
    assert "torch 2.8 or newer" in said
