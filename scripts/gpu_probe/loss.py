"""Measure the loss alone: time by kernel and divergence, and the distance to float64 on a CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from benchmark.plain import plain_loss
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss
from torch import Tensor

from ka_fairseq.loss.chunked import cross_entropy, transfer_loss
from ka_fairseq.loss.divergences import divergence_named, divergence_names
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.positions import counted_target_rows
from ka_fairseq.loss.projection import Projection

from . import peers
from .record import Record

SMOOTHING, WEIGHT = 0.1, 0.5
# The divergences of triton's kernel.
FUSED = ("forward_kl", "backward_kl", "jsd_mixture", "js")
CLOSE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 2e-3}


@dataclass(frozen=True)
class Rows:
    """Random hidden states and projections of both models, the inputs of the loss.

    Attributes:
        learner: leaves of a graph.
        teacher: tensors without a gradient.
        targets: shape (n,).
    """

    learner: Projection
    teacher: Projection
    targets: Tensor

    @classmethod
    def make(
        cls, n: int, vocabulary: int, widths: tuple[int, int], dtype: torch.dtype, device: Any
    ) -> Rows:
        """Draw the tensors; the logits have a standard deviation of about 2."""
        generator = torch.Generator().manual_seed(1)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(device, dtype)

        learner, teacher = (
            Projection(draw(n, width), draw(vocabulary, width) * (2 / width**0.5), None)
            for width in widths
        )
        for leaf in (learner.hidden, learner.weight):
            leaf.requires_grad_()
        targets = torch.randint(vocabulary, (n,), generator=generator).to(device)
        return cls(learner, teacher, targets)

    def answers(self, cached: bool) -> TeacherOutput:
        """Return the teacher's answers; from a cache with entropy and normalizers."""
        if not cached:
            return TeacherOutput([self.teacher])
        with torch.no_grad():
            lprobs = F.linear(self.teacher.hidden, self.teacher.weight).float().log_softmax(-1)
            entropy = -(lprobs.exp() * lprobs).sum(-1)
        return TeacherOutput([self.teacher], entropy)

    def loss(self, name: str, kernel: str, cached: bool = False) -> Callable[[], Tensor]:
        """Return a function that computes this package's loss and its gradient."""
        objective = Objective(divergence_named(name), WEIGHT, SMOOTHING)
        answers = self.answers(cached)

        def run() -> Tensor:
            loss = transfer_loss(self.learner, answers, self.targets, objective, kernel=kernel).loss
            loss.backward()
            return loss

        return run

    def gradients(self) -> list[Tensor]:
        """Return and remove the gradients of the hidden states and the projection."""
        found = [self.learner.hidden.grad, self.learner.weight.grad]
        self.learner.hidden.grad = self.learner.weight.grad = None
        return found


def times(record: Record) -> None:
    """Time the loss alone at De–En sizes: comparisons first, then each kernel and divergence."""
    sizes = (64,) if record.quick else (4096, 16384)
    vocabulary, widths = (500, (16, 24)) if record.quick else (40_000, (512, 1024))
    dtype = torch.float32 if record.device.type == "cpu" else torch.bfloat16
    kernels = ("eager",) if record.device.type == "cpu" else ("triton", "eager", "compiled")
    for n in sizes:
        part = f"loss alone, {n} tokens, {str(dtype).removeprefix('torch.')}"
        rows = Rows.make(n, vocabulary, widths, dtype, record.device)
        for name, run in _others(rows).items():
            record.figure(part, name, _measured, record, rows, run)
        for kernel, name, cached in itertools.product(kernels, FUSED, (False, True)):
            figure = f"{name}, {kernel}, {'cached' if cached else 'asked'}"
            record.figure(part, figure, _of_this_package, record, rows, name, kernel, cached)
        del rows


def _of_this_package(
    record: Record, rows: Rows, name: str, kernel: str, cached: bool
) -> dict[str, float]:
    return _measured(record, rows, rows.loss(name, kernel, cached))


def _others(rows: Rows) -> dict[str, Callable[[], Any]]:
    """Return the comparisons of the loss, with the installed peers."""
    objective = Objective(divergence_named("backward_kl"), WEIGHT, SMOOTHING)
    learner, teacher, targets = rows.learner, rows.teacher, rows.targets

    def products() -> None:
        F.linear(teacher.hidden, teacher.weight)
        logits = F.linear(learner.hidden, learner.weight)
        logits.backward(logits.detach())

    def fairseqs() -> None:
        logits = F.linear(learner.hidden, learner.weight)
        lprobs = F.log_softmax(logits, dim=-1, dtype=torch.float32)
        label_smoothed_nll_loss(lprobs, targets[:, None], SMOOTHING)[0].backward()

    def plain() -> None:
        with torch.no_grad():
            of_teacher = F.linear(teacher.hidden, teacher.weight)
        logits = F.linear(learner.hidden, learner.weight)
        plain_loss(logits[None], of_teacher[None], targets[None], objective, -1).backward()

    found: dict[str, Callable[[], Any]] = {
        "products of both models": products,
        "cross-entropy, fairseq's": fairseqs,
        "cross-entropy, chunked": lambda: cross_entropy(
            learner, targets, SMOOTHING
        ).loss.backward(),
        "backward_kl, plain": plain,
    }
    losses = {"liger": peers.liger_loss, "trl": peers.trl_loss}
    for peer, loss in losses.items():
        if peers.installed(peer):
            found[f"backward_kl, {peer}"] = lambda loss=loss: loss(
                learner, teacher, targets, objective
            ).backward()
    return found


def _measured(record: Record, rows: Rows, run: Callable[[], Any]) -> dict[str, float]:
    on_cuda = record.device.type == "cuda"
    milliseconds = record.milliseconds(run)
    rows.gradients()
    if not on_cuda:
        return {"ms": milliseconds}
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    peak = torch.cuda.max_memory_allocated() - before
    rows.gradients()
    return {"ms": milliseconds, "peak MB": round(peak / 1e6, 1)}


def closeness(record: Record) -> None:
    """Compare each divergence in each precision, with its kernel, to float64 on a CPU."""
    n, vocabulary = (16, 300) if record.quick else (64, 5000)
    for dtype in CLOSE:
        for name in divergence_names():
            record.figure(
                "beside float64",
                f"{name}, {str(dtype).removeprefix('torch.')}",
                lambda *how: _distance(record, *how),
                *(name, n, vocabulary, dtype),
            )
    if record.device.type == "cuda":
        record.figure("beside float64", "no step waits for the GPU", lambda: _never_waits(record))


def _distance(
    record: Record, name: str, n: int, vocabulary: int, dtype: torch.dtype
) -> dict[str, str]:
    """Return the relative errors of loss and gradients.

    Raises:
        AssertionError: an error is larger than the precision explains.
    """
    rows = Rows.make(n, vocabulary, (16, 24), dtype, record.device)
    loss = rows.loss(name, "auto")().item()
    found = rows.gradients()
    exact = Rows(
        *(
            Projection(
                *(
                    tensor.detach().double().cpu().requires_grad_(tensor.requires_grad)
                    for tensor in output.inputs[:2]
                ),
                None,
            )
            for output in (rows.learner, rows.teacher)
        ),
        rows.targets.cpu(),
    )
    expected = exact.loss(name, "eager")().item()
    gradients = exact.gradients()
    off = {"loss": abs(loss - expected) / abs(expected)}
    for what, one, other in zip(("hidden", "weight"), found, gradients, strict=True):
        off[what] = float((one.double().cpu() - other).norm() / other.norm())
    assert max(off.values()) <= CLOSE[dtype], off
    return {what: f"{value:.1e}" for what, value in off.items()}


def _never_waits(record: Record) -> str:
    """Run one step with torch's alarm on: an operation that waits for the GPU raises."""
    rows = Rows.make(64, 5000, (16, 24), torch.bfloat16, record.device)
    runs = [rows.loss(name, "auto") for name in FUSED]
    for run in runs:
        run()  # the first run may wait, as it tries kernels and compiles
    torch.cuda.set_sync_debug_mode("error")
    try:
        for run in runs:
            run()
        counted_target_rows(rows.targets.view(8, -1), -1, len(rows.targets))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return f"{', '.join(FUSED)}"
