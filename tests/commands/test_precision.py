"""Trainings in half precision: close to float32, and whatever overflows is left out, not learned.

On the CPU, and on a GPU where there is one. fairseq trains in float16 on a CPU only with
--fp16-no-flatten-grads.
"""

import contextlib
from unittest import mock

import pytest
import torch

from tests.support import needs_float16, records, succeeded, train_together, weights

pytestmark = pytest.mark.slow

CRITERIONS = ("forward_kl", "backward_kl", "topk_kl")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]
on_each_device = pytest.mark.parametrize("device", DEVICES)

# Absolute, in bits a token, for the losses logged over 8 updates, which start at 9.
CURVE = {"fp16": 0.01, "bf16": 0.1}


@pytest.fixture
def options(fine_tuning, tmp_path):
    def options(folder, device, criterion, *arguments, **teacher):
        short = ("--max-update", 8, "--log-interval", 1, "--disable-validation", *arguments)
        given = fine_tuning(tmp_path / folder, criterion, *short, **teacher)
        return given if device == "cpu" else [option for option in given if option != "--cpu"]

    return options


@contextlib.contextmanager
def no_gpu_needed():
    """Where an update overflows, fairseq puts a zero on the GPU, even with --cpu."""
    if torch.cuda.is_available():
        yield
    else:
        with mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor):
            yield


def precision(name, device):
    if name == "fp16" and device == "cpu":
        needs_float16(device)
        return ("--fp16", "--fp16-no-flatten-grads")
    return () if name == "fp32" else (f"--{name}",)


def losses(result):
    names = ("loss", "nll_loss", "transfer_loss", "entropy", "teacher_entropy")
    found = records(result, "train_inner")
    return torch.tensor([[float(record[name]) for name in names] for record in found])


@pytest.mark.parametrize(
    ("criterion", "device"),
    [
        ("jsd_mixture", "cpu"),  # both KLs
        pytest.param("topk_kl", "cpu", marks=pytest.mark.extended),
        pytest.param("jsd_mixture", "cuda", marks=pytest.mark.gpu),
        *(
            pytest.param(name, "cuda", marks=[pytest.mark.gpu, pytest.mark.extended])
            for name in CRITERIONS
        ),
    ],
)
def test_training_is_close_to_float32(options, tmp_path, criterion, device):
    exact, *rounded = succeeded(
        train_together(
            *(
                options(name, device, criterion, *precision(name, device))
                for name in ("fp32", *CURVE)
            ),
            watch=no_gpu_needed,
        )
    )
    assert len(losses(exact)) == 8
    for result, tolerance in zip(rounded, CURVE.values(), strict=True):
        torch.testing.assert_close(losses(result), losses(exact), rtol=0, atol=tolerance)
    for name, dtype in (("fp16", torch.float16), ("bf16", torch.bfloat16)):
        for folder in ("fp32", name):  # it is saved as float32
            saved = weights(tmp_path / folder)["decoder.output_projection.weight"]
            assert torch.equal(saved, saved.to(dtype).float()) == (folder == name)


@pytest.mark.extended
@on_each_device
def test_updates_that_overflow_change_nothing(options, learner_file, tmp_path, device):
    """Scaled so much that all of an epoch do; scaled so much that the first ones do."""
    fp16 = precision("fp16", device)
    once = ("--fp16-init-scale", 2**60, "--max-epoch", 1)
    all_do, some_do = succeeded(
        train_together(
            options("all", device, "backward_kl", *fp16, *once),
            options("some", device, "backward_kl", *fp16, "--fp16-init-scale", 2**12),
            watch=no_gpu_needed,
        )
    )
    overflow = "gradient overflow detected, ignoring gradient"
    assert all_do.stdout.count(overflow) > 5
    assert overflow in some_do.stdout and len(losses(some_do)) >= 8
    start = torch.load(learner_file, weights_only=True)["model"]
    for name, tensor in weights(tmp_path / "all").items():
        assert torch.equal(tensor.half(), start[name].half())
    learned = weights(tmp_path / "some")
    assert all(torch.isfinite(tensor).all() for tensor in learned.values())
    assert any(not torch.equal(learned[name].half(), start[name].half()) for name in learned)


@pytest.mark.extended
@on_each_device
def test_a_teacher_of_nothing_but_certainties(options, binarized, teacher_file, tmp_path, device):
    """λ = 1, float16, logits in the thousands: the softmax is 1 for one token, 0 for the others."""
    state = torch.load(teacher_file, weights_only=True)
    state["model"]["decoder.output_projection.weight"] *= 1000
    torch.save(state, tmp_path / "certain.pt")
    given = ("--transfer-weight", 1, "--teacher-data", binarized)
    # Near to where the scaler gets to by itself, from 128 in some dozens of skipped batches.
    fp16 = (*precision("fp16", device), "--fp16-init-scale", 1)
    results = succeeded(
        train_together(
            *(
                options(
                    *(criterion, device, criterion, *given, *fp16),
                    teacher=tmp_path / "certain.pt",
                )
                for criterion in (*CRITERIONS, "jsd_mixture")
            ),
            watch=no_gpu_needed,
        )
    )
    for criterion, result in zip((*CRITERIONS, "jsd_mixture"), results, strict=True):
        assert torch.isfinite(losses(result)).all() and losses(result)[:, 4].max() < 0.5
        learned = weights(tmp_path / criterion)
        assert all(torch.isfinite(tensor).all() for tensor in learned.values())
