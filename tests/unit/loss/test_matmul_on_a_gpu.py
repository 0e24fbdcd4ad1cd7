"""Which precision is multiplied in, on a GPU that is not there."""

# ruff: noqa: E402  an older torch has not what follows

import logging
from unittest import mock

import pytest

backends = pytest.importorskip("torch.utils.backend_registration")
if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch has no backends in Python", allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

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
    hidden, weight, widened = matmul.factors(narrow, wide, None)
    assert torch.equal(hidden, narrow.float()) and torch.equal(weight, wide) and not widened
    hidden, weight, widened = matmul.factors(narrow, wide.bfloat16(), None)
    assert hidden.dtype == weight.dtype == torch.float32 and not widened


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
    assert "multiplies in TF32" in said and "torch 2.8 or newer" in said


class Tf32(TorchDispatchMode):
    """Whether each product inside may be made in TF32."""

    def __init__(self):
        super().__init__()
        self.allowed = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.addmm_):
            self.allowed.append(torch.backends.cuda.matmul.allow_tf32)
        return func(*args, **(kwargs or {}))


@pytest.fixture(params=[False, True])
def users(request):
    """Whether the user allowed TF32 for all products."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize(
    ("of_hidden", "of_weight", "exact"),
    [
        (torch.float16, torch.float16, True),
        (torch.bfloat16, torch.bfloat16, True),
        (torch.bfloat16, torch.float32, True),  # the weight is rounded first
        (torch.float32, torch.float32, False),
    ],
)
def test_before_torch_2_8_what_was_half_is_multiplied_in_tf32(of_hidden, of_weight, exact, users):
    older = mock.patch.object(matmul, "multiplies_into_float32", lambda device: False)
    with fake.fake_gpu(5), older, Tf32() as tf32:
        step(of_hidden, of_weight)
    assert tf32.allowed == [exact or users] * 4  # both logits, both gradients
    assert torch.backends.cuda.matmul.allow_tf32 == users


def test_tf32_ends_with_an_error(users):
    with pytest.raises(ValueError), matmul.tensor_cores(widened=True):
        raise ValueError
    assert torch.backends.cuda.matmul.allow_tf32 == users
