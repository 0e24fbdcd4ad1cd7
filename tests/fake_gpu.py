"""Whole steps on a GPU that is not there: shapes, precisions and devices, but no numbers.

torch's fake tensors carry a device and raise where an operation mixes two. A torch built for CPUs
cannot pretend to be ``cuda`` (it has no guard for that device: slices fail already), so the device
here is torch's backend for experiments, named ``gpu``. The package asks only whether a device is a
CPU; where it asks for ``cuda`` (may half-precision factors give a float32 product?), the answer is
given here.

What fake tensors cannot show: numbers, autocast (this backend has none), and models that are moved
between devices.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from unittest import mock

import torch
import torch.utils.backend_registration as backends
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors
from torch.utils._python_dispatch import TorchDispatchMode

from ka_fairseq.loss import matmul

DEVICE = "gpu"

aten = torch.ops.aten
# What makes the host wait until a GPU has answered, and what is answered here.
WAITS: Mapping[Any, Callable[..., Any]] = {
    aten._local_scalar_dense.default: lambda tensor: tensor.dtype == torch.bool,
    aten.equal.default: lambda one, other: True,
    aten.is_nonzero.default: lambda tensor: True,
}


class _Absent(backends._DummyPrivateUse1Hook):
    """Nobody is to take the device for one that is there: data loaders would pin memory for it."""

    def is_available(self) -> bool:
        return False


@functools.cache
def _register() -> None:
    """Once a process: a backend has one name."""
    module = backends._DummyBackendModule()
    module.is_available = lambda: False
    module.get_amp_supported_dtype = lambda: [torch.float16, torch.bfloat16]
    backends._setup_privateuseone_for_python_backend(DEVICE, module, _Absent())


class _MadeOnTheGpu(TorchFunctionMode):
    """As ``with torch.device(DEVICE)``, and ``torch.tensor``, which makes no fakes, by ``full``."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _device_constructors():
            kwargs.setdefault("device", DEVICE)
        if func is torch.tensor:
            return torch.full((), *args, **kwargs)
        return func(*args, **kwargs)


class FakeGpu(TorchDispatchMode):
    """Counts how often the host waits, and gives the answers that need numbers.

    Attributes:
        waits: the operations that made it wait, models' own forward passes left out.
    """

    def __init__(self, positions: int) -> None:
        """Expect a batch of so many scored target positions."""
        super().__init__()
        self.positions = positions
        self.waits: list[str] = []
        self._in_a_model = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Answer where numbers are needed; leave all else to the fake tensors."""
        kwargs = kwargs or {}
        if func in WAITS:
            self._note(func)
            return WAITS[func](*args)
        if func is aten.nonzero.default:
            self._note(func)
            return args[0].new_empty(self.positions, args[0].dim(), dtype=torch.int64)
        if func is aten.index.Tensor and any(_is_mask(index) for index in args[1]):
            raise AssertionError("a boolean mask makes the host wait: use row numbers")
        if func is aten._to_copy.default and _leaves_the_gpu(args[0], kwargs):
            self._note(func)
        return func(*args, **kwargs)

    def watch(self, model: nn.Module) -> nn.Module:
        """A model whose forward pass may wait, and make tensors without naming a device.

        fairseq's encoders ask whether there is any padding, and make some buffers on the CPU to
        move them afterwards, which a build of torch without GPUs cannot do.
        """
        forward = model.forward

        @functools.wraps(forward)
        def forward_on_gpu(*args: Any, **kwargs: Any) -> Any:
            self._in_a_model = True
            try:
                with _MadeOnTheGpu():
                    return forward(*args, **kwargs)
            finally:
                self._in_a_model = False

        model.forward = forward_on_gpu
        return model

    def _note(self, func: Any) -> None:
        if not self._in_a_model:
            self.waits.append(str(func))


@contextlib.contextmanager
def fake_gpu(positions: int) -> Iterator[FakeGpu]:
    """Everything inside is fake; products of half-precision factors are float32."""
    _register()
    gpu = FakeGpu(positions)
    with (
        # A device's own thread that runs Python code ends the process at its exit.
        torch.autograd.set_multithreading_enabled(False),
        mock.patch.object(matmul, "multiplies_into_float32", lambda device: True),
        FakeTensorMode(),
        gpu,
    ):
        yield gpu


def on_gpu(make: Callable[[], Any], dtype: torch.dtype = torch.float32) -> Any:
    """What a function makes, with parameters on the GPU and in a precision."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(DEVICE):
            return make()
    finally:
        torch.set_default_dtype(before)


def batch_on_gpu(sample: Any) -> Any:
    """A real batch's shapes on the GPU."""
    if isinstance(sample, dict):
        return {key: batch_on_gpu(value) for key, value in sample.items()}
    if isinstance(sample, Tensor):
        return torch.empty(sample.shape, dtype=sample.dtype, device=DEVICE)
    return sample


def _is_mask(index: Tensor | None) -> bool:
    return index is not None and index.dtype in (torch.bool, torch.uint8)


def _leaves_the_gpu(tensor: Tensor, kwargs: Mapping[str, Any]) -> bool:
    device = kwargs.get("device")
    return device is not None and tensor.device.type == DEVICE and device.type == "cpu"
