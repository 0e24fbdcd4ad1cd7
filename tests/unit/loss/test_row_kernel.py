"""The kernel for a GPU: interpreted on a CPU against float64, and compiled for two cards' types."""

import json
import math
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")

from ka_fairseq.loss import row_kernel
from ka_fairseq.loss.divergences import (
    BACKWARD_KL,
    FORWARD_KL,
    JSD_MIXTURE,
    KLMixture,
    divergence_named,
)
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.objective import Objective, row_losses
from ka_fairseq.loss.row_kernel import Shares, fused_row_losses, shares_of

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # interpreted, see tests/conftest.py
DIVERGENCES = {
    "forward": FORWARD_KL,
    "backward": BACKWARD_KL,
    "mixture": JSD_MIXTURE,
    "other shares": KLMixture(0.2, 0.8),
    "js": JensenShannon(0.5),
    "near forward": JensenShannon(0.1),
    "an end": JensenShannon(1.0),
}
# Beside the largest of its kind, or a tenth: a few roundings in float32, in sums over V.
CLOSE = 2e-6
# Triton's interpreter cuts digits off where a GPU rounds: a whole last digit of bfloat16's eight.
ROUNDED = {torch.float32: CLOSE, torch.bfloat16: 2**-7, torch.float16: 2**-10}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Several to a row, the last not full."""
    monkeypatch.setattr(row_kernel, "BLOCK", 64)


def rows(n, vocabulary, scale, seed, ruled_out=0):
    """Logits of both models, and targets; the teacher rules out every so many-th token."""
    generator = torch.Generator().manual_seed(seed)
    learner, teacher = (torch.randn(n, vocabulary, generator=generator) * scale for _ in range(2))
    if ruled_out:
        teacher[:, ::ruled_out] = -math.inf
    targets = torch.randint(vocabulary, (n,), generator=generator)
    return learner.to(DEVICE), teacher.to(DEVICE), targets.to(DEVICE)


def expected(learner, teacher, targets, objective, threshold=None):
    """Losses and gradient in float64, by the formulas of the objective, and the best tokens."""
    gradient = learner.double().cpu()
    best = gradient.argmax(-1)
    losses = row_losses(
        *(gradient, [teacher.double().cpu()], None, targets.cpu(), objective, True),
        *(() if threshold is None else (threshold.double(),)),
    )
    return losses, gradient, best


def assert_close(found, exact, tolerance=CLOSE):
    found, exact = found.double().cpu(), exact.double()
    assert (found - exact).abs().max() <= tolerance * exact.abs().max().clamp(min=0.1)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 4),
    vocabulary=st.integers(2, 200),
    name=st.sampled_from(list(DIVERGENCES)),
    scale=st.sampled_from([0.5, 5.0, 3000.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
    temperature=st.sampled_from([1.0, 0.5, 3.0]),
    weight=st.sampled_from([0.0, 0.5, 1.0]),
    ruled_out=st.sampled_from([0, 3]),
    dtype=st.sampled_from(list(ROUNDED)),
    seed=st.integers(0, 99),
)
def test_it_computes_what_the_formulas_say_in_float64(
    n, vocabulary, name, scale, smoothing, temperature, weight, ruled_out, dtype, seed
):
    learner, teacher, targets = rows(n, vocabulary, scale, seed, ruled_out)
    objective = Objective(DIVERGENCES[name], weight, smoothing, True, temperature)
    losses, gradient, best = expected(learner, teacher, targets, objective)
    if dtype == torch.float16 and gradient.abs().max() > 6e4:
        dtype = torch.bfloat16  # beyond float16's range, and the loss asks for no such gradient
    chosen = torch.empty_like(targets)
    found, of_logits = fused_row_losses(
        *(learner, teacher, None, targets, objective, dtype), best=chosen
    )
    for one, exact in zip(found, losses, strict=True):
        assert_close(one, exact, 10 * CLOSE)
    assert of_logits.dtype == dtype
    assert_close(of_logits, gradient, 10 * CLOSE + ROUNDED[dtype] * (dtype != torch.float32))
    assert torch.equal(chosen.cpu(), best)


def test_easy_rows_have_no_divergence():
    """At or above the threshold it counts, below it does not."""
    learner, teacher, targets = rows(6, 150, 2.0, seed=3)
    objective = Objective(JSD_MIXTURE, 0.4, 0.1)
    nll = torch.nn.functional.cross_entropy(learner, targets, reduction="none")
    threshold = nll.sort().values[2:4].mean()
    losses, gradient, _ = expected(learner, teacher, targets, objective, threshold.cpu())
    found, of_logits = fused_row_losses(
        *(learner, teacher, None, targets, objective, torch.float32), threshold=threshold
    )
    assert sorted(found.transfer_loss.gt(0).tolist()) == [False] * 3 + [True] * 3
    assert_close(found.loss, losses.loss)
    assert_close(of_logits, gradient)


def test_without_a_gradient_the_logits_stay():
    learner, teacher, targets = rows(3, 100, 1.0, seed=4)
    before, of_teacher = learner.clone(), teacher.clone()
    objective = Objective(FORWARD_KL, 0.5, accuracy=True)
    known = torch.full((3,), 7.0, device=DEVICE)
    found, of_logits = fused_row_losses(learner, teacher, known, targets, objective, None)
    assert torch.equal(of_logits, before) and torch.equal(teacher, of_teacher)
    assert torch.equal(found.teacher_entropy, known)  # the cache's, as it is logged elsewhere
    assert torch.equal(found.n_correct, before.argmax(-1).eq(targets).float())


def test_without_an_nll_an_impossible_target_is_harmless():
    learner, teacher, targets = rows(2, 90, 1.0, seed=5)
    learner[torch.arange(2), targets] = -math.inf
    objective = Objective(BACKWARD_KL, 1.0, 0.1)
    found, of_logits = fused_row_losses(learner, teacher, None, targets, objective, torch.float32)
    assert torch.equal(found.loss, found.transfer_loss)
    assert torch.isfinite(found.loss).all() and torch.isfinite(of_logits).all()


def test_a_block_of_nothing_but_zero_probabilities_is_left_out():
    learner, teacher, targets = rows(2, 150, 1.0, seed=6)
    teacher[:, :64] = -math.inf
    objective = Objective(JensenShannon(0.5), 0.5)
    losses, gradient, _ = expected(learner, teacher, targets, objective)
    found, of_logits = fused_row_losses(learner, teacher, None, targets, objective, torch.float32)
    assert_close(found.loss, losses.loss)
    assert_close(of_logits, gradient)


def test_which_divergences_it_knows():
    assert shares_of(JSD_MIXTURE, 9) == Shares(0.5, 0.5)
    assert shares_of(BACKWARD_KL.restricted(9, "tail"), 9) == Shares(0.0, 1.0)
    assert shares_of(BACKWARD_KL.restricted(8, "tail"), 9) is None
    assert shares_of(JensenShannon(0.3), 9) == Shares(0.0, 0.0, 0.3)
    assert shares_of(JensenShannon(0.0), 9) == Shares(1.0, 0.0)
    assert shares_of(divergence_named("tvd"), 9) is None


# -- without a card, for two -----------------------------------------------------------------------

COMPILE = """
import json, sys, triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from ka_fairseq.loss.row_kernel import _row_kernel as kernel

def type_of(name):
    if name.endswith("_ptr"):
        others = {"targets_ptr": "*i64", "best_ptr": "*i64", "gradient_ptr": "*bf16"}
        return others.get(name, "*fp32")
    return "i32" if name == "vocabulary" or name.endswith("_stride") else "fp32"

given = dict.fromkeys(["JS", "GRADIENT", "SOFTENED", "THRESHOLD", "BEST", "NLL"], True)
given["BLOCK"] = 1024
signature = {n: "constexpr" if n in given else type_of(n) for n in kernel.arg_names}
source = ASTSource(kernel, signature, constexprs=given)
for capability in (80, 90):
    target = GPUTarget("cuda", capability, 32)
    made = triton.compile(source, target=target, options={"num_warps": 8})
    print(json.dumps([capability, made.asm["ptx"]]))
"""


@pytest.mark.slow
def test_it_compiles_for_an_a100_and_an_h100():
    """In a process of its own, in which Triton compiles and does not interpret."""
    variables = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE], capture_output=True, text=True, check=False, env=variables
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line for line in done.stdout.splitlines() if line.startswith("[")]
    for line, name in zip(lines, ("sm_80", "sm_90"), strict=True):
        ptx = json.loads(line)[1]
        assert f".target {name}" in ptx and "_row_kernel" in ptx
