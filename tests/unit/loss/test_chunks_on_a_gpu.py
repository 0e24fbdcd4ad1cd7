"""What a chunk takes of a GPU's memory, on a GPU that is not there: its budget and no more."""

# ruff: noqa: E402  an older torch has not what follows

import weakref

import pytest

backends = pytest.importorskip("torch.utils.backend_registration")
if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
    pytest.skip("this torch has no backends in Python", allow_module_level=True)

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ka_fairseq.loss import chunks
from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.divergences import BACKWARD_KL, divergence_named, divergence_names
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Projection
from tests import fake_gpu as fake

V = 5000
BUDGET = 2**22
DIVERGENCES = {
    **{name: divergence_named(name) for name in divergence_names()},
    "topk_kl": BACKWARD_KL.restricted(5, "generalized"),
}


class Peak(TorchDispatchMode):
    """The most bytes that the tensors made inside hold at a time."""

    def __init__(self):
        super().__init__()
        self.bytes = 0
        self._made = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self._made.add(weakref.ref(tensor))
        self._made = {reference for reference in self._made if reference() is not None}
        storages = [reference().untyped_storage() for reference in self._made]
        held = {storage._cdata: storage.nbytes() for storage in storages}
        self.bytes = max(self.bytes, sum(held.values()))
        return out


def output(width=1):
    leaves = (torch.empty(n, width, device=fake.DEVICE).requires_grad_() for n in (64, V))
    return Projection(*leaves, None)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_chunk_takes_its_budget_and_no_more(monkeypatch, name, temperature):
    """Op by op, where the most is alive at a time."""
    monkeypatch.setattr(chunks, "GPU_BUDGET", BUDGET)
    objective = Objective(DIVERGENCES[name], 0.5, 0.1, temperature=temperature)
    with fake.fake_gpu(64):
        learner, teacher = output(), TeacherOutput([output()])
        targets = torch.empty(64, dtype=torch.int64, device=fake.DEVICE)
        with Peak() as peak:
            transfer_loss(learner, teacher, targets, objective)
    assert 0.75 * BUDGET < peak.bytes < 1.02 * BUDGET  # and both gradients
