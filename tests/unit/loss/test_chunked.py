"""The chunked loss against plain formulas: float64 by a second route, and fairseq's own loss."""

import math

import numpy as np
import pytest
import torch
from fairseq.criterions.label_smoothed_cross_entropy import label_smoothed_nll_loss

from ka_fairseq.loss import chunked
from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.divergences import BACKWARD_KL, FORWARD_KL, JSD_MIXTURE, TOP_K_FORMS, KLMixture
from ka_fairseq.loss.divergences.alpha_beta import AlphaBeta
from ka_fairseq.loss.divergences.jensen_shannon import JensenShannon
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.objective import Objective, row_losses
from ka_fairseq.loss.projection import Logits, Projection
from tests.support import projection, whole_logits

N, D, V = 23, 8, 40
ALL = slice(None)
DIVERGENCES = [
    *(FORWARD_KL, BACKWARD_KL, JSD_MIXTURE),
    *(d.restricted(5, form) for d in (FORWARD_KL, BACKWARD_KL) for form in TOP_K_FORMS),
    KLMixture(0.25, 0.75, 3),
]


def output(seed, width=D, **options):
    return projection(seed, N, width, V, **options)


def alone(teacher):
    return TeacherOutput([teacher])


def targets():
    return torch.randint(V, (N,), generator=torch.Generator().manual_seed(9))


def plain_kl(a, b, top_k, form):
    """KL(a‖b) over the k best of a, from probabilities and by autograd; a second route."""
    if not top_k:
        return (a * (a / b).log()).sum(-1)
    inside = torch.zeros_like(a).scatter(-1, a.detach().topk(top_k).indices, 1.0)
    terms = {
        "partial": lambda: a * (a / b).log(),
        "generalized": lambda: a * (a / b).log() - a + b,
        "tail": lambda: a * (a / b).log(),
    }[form]()
    value = (terms * inside).sum(-1)
    if form == "tail":
        a_rest, b_rest = ((x * (1 - inside)).sum(-1) for x in (a, b))
        value = value + a_rest * (a_rest / b_rest).log()
    return value


def plain(learner, teacher_probs, objective):
    """The whole loss at once, by softmax and autograd, from probabilities."""
    lprobs = torch.log_softmax(whole_logits(learner), -1)
    smoothed, nll = label_smoothed_nll_loss(lprobs, targets(), objective.label_smoothing)
    d, p, q = objective.divergence, lprobs.exp(), teacher_probs
    divergence = d.forward * plain_kl(q, p, d.top_k, d.top_k_form).sum()
    divergence = divergence + d.backward * plain_kl(p, q, d.top_k, d.top_k_form).sum()
    weight = objective.transfer_weight
    return (1 - weight) * smoothed + weight * divergence, nll, divergence


def gradients(loss, learner):
    return torch.autograd.grad(loss, [t for t in learner.inputs if t is not None])


@pytest.mark.parametrize("chunk_rows", [1, 5, N, 1000, 0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_value_and_gradients_equal_the_plain_path(divergence, smoothing, chunk_rows):
    learner, teacher = output(1), output(2, width=11)
    objective = Objective(divergence, 0.3, smoothing)
    result = transfer_loss(learner, alone(teacher), targets(), objective, chunk_rows)
    probs = torch.softmax(teacher.logits(ALL).detach(), -1)
    loss, nll, transfer = plain(learner, probs, objective)
    for ours, theirs in ((result.loss, loss), (result.nll_loss, nll.sum())):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(result.transfer_loss, transfer, rtol=1e-9, atol=0)
    for ours, theirs in zip(gradients(result.loss, learner), gradients(loss, learner), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_the_other_parts_by_numpy():
    learner, teacher = output(1), output(2)
    objective = Objective(FORWARD_KL, 0.5, accuracy=True)
    result = transfer_loss(learner, alone(teacher), targets(), objective)
    for name, model in (("entropy", learner), ("teacher_entropy", teacher)):
        logits = model.logits(ALL).detach().numpy()
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        assert getattr(result, name).item() == pytest.approx(-(p * np.log(p)).sum(), rel=1e-10)
    best = learner.logits(ALL).argmax(-1)
    assert result.n_correct.item() == (best == targets()).sum().item()
    assert not any(part.requires_grad for part in result[1:])


def test_lambda_one_is_the_teacher_alone_and_keeps_clear_of_an_infinite_nll():
    logits = torch.randn(N, V, dtype=torch.float64)
    impossible = targets()
    logits[torch.arange(N), impossible] = -math.inf
    learner = Logits(logits.requires_grad_())
    result = transfer_loss(learner, alone(output(2)), impossible, Objective(BACKWARD_KL, 1.0))
    assert torch.equal(result.loss, result.transfer_loss)
    result.loss.backward()
    assert torch.isfinite(result.loss) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("divergence", [FORWARD_KL, BACKWARD_KL])
def test_half_precision_loses_nothing_but_the_stored_digits(divergence, dtype):
    """Hidden states and weights are rounded; logits, loss and gradients are not rounded again."""
    learner, teacher = output(1, dtype=dtype), output(2, dtype=dtype)
    objective = Objective(divergence, 0.5)
    result = transfer_loss(learner, alone(teacher), targets(), objective)
    rounded = Projection(*(t.detach().double().requires_grad_() for t in learner.inputs))
    probs = torch.softmax(
        torch.nn.functional.linear(*(t.detach().double() for t in teacher.inputs)), -1
    )
    loss, *_ = plain(rounded, probs, objective)
    assert result.loss.item() == pytest.approx(loss.item(), rel=1e-5)
    epsilon = torch.finfo(dtype).eps
    for ours, theirs in zip(gradients(result.loss, learner), gradients(loss, rounded), strict=True):
        assert ours.dtype == dtype
        torch.testing.assert_close(ours.double(), theirs, rtol=epsilon, atol=1e-5)


def test_gradients_are_scaled_before_they_are_rounded_to_half():
    """What the loss scaler is for: a gradient below fp16's range survives in the scaled loss."""

    def of_hidden(scale):
        learner = output(1, dtype=torch.float16)
        result = transfer_loss(learner, alone(output(2)), targets(), Objective(FORWARD_KL, 0.5))
        return gradients(result.loss * scale, learner)[0]

    assert not of_hidden(1e-9).any()
    assert of_hidden(1e-9 * 2**20).any()


def test_a_second_backward_pass_is_refused():
    learner = output(1)
    result = transfer_loss(learner, alone(output(2)), targets(), Objective(FORWARD_KL, 0.5))
    result.loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="earlier backward pass"):
        result.loss.backward()


def test_autocast_does_not_round_the_logits():
    learner, teacher = output(1, dtype=torch.float32), output(2, dtype=torch.float32)
    objective = Objective(BACKWARD_KL, 0.5)
    plain_loss = transfer_loss(learner, alone(teacher), targets(), objective).loss
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(
            transfer_loss(learner, alone(teacher), targets(), objective).loss, plain_loss
        )


def test_logits_give_what_a_projection_gives():
    learner, teacher = output(1), output(2)
    objective = Objective(JSD_MIXTURE, 0.5, 0.1)
    projected = transfer_loss(learner, alone(teacher), targets(), objective, 7)
    logits = whole_logits(learner)
    given = transfer_loss(Logits(logits), alone(teacher), targets(), objective, 7)
    torch.testing.assert_close(projected.loss, given.loss)
    for one, other in zip(
        gradients(projected.loss, learner), gradients(given.loss, learner), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_an_ensemble_averages_probabilities():
    teachers = [output(2), output(3, width=5), output(4)]
    probs = [torch.softmax(t.logits(ALL), -1) for t in teachers]
    mean = torch.stack(probs).mean(0).log()
    torch.testing.assert_close(TeacherOutput(teachers).distribution(ALL).lprobs, mean)
    result = transfer_loss(
        output(1), TeacherOutput(teachers), targets(), Objective(FORWARD_KL, 0.5)
    )
    loss, *_ = plain(output(1), mean.exp(), Objective(FORWARD_KL, 0.5))
    torch.testing.assert_close(result.loss, loss)


def test_no_bias_and_frozen_parts_get_no_gradient():
    learner = output(1, bias=False)
    learner.weight.requires_grad_(False)
    result = transfer_loss(learner, alone(output(2)), targets(), Objective(FORWARD_KL, 0.5))
    result.loss.backward()
    assert learner.hidden.grad is not None and learner.weight.grad is None


def test_no_position_gives_zero_with_a_graph():
    learner = output(1)
    empty = Projection(learner.hidden[:0], learner.weight, learner.bias)
    result = transfer_loss(empty, alone(output(2)), targets()[:0], Objective(BACKWARD_KL, 0.5, 0.1))
    assert result.loss.item() == 0
    result.loss.backward()
    assert not learner.weight.grad.any() and not learner.hidden.grad.any()


def test_without_gradients_the_values_are_the_same():
    learner, teacher = output(1), output(2)
    objective = Objective(BACKWARD_KL, 0.5, 0.1)
    with torch.no_grad():
        quiet = transfer_loss(learner, alone(teacher), targets(), objective)
    assert not quiet.loss.requires_grad
    for one, other in zip(
        quiet, transfer_loss(learner, alone(teacher), targets(), objective), strict=True
    ):
        assert torch.equal(one, other.detach())


def test_no_tensor_of_all_rows_and_types_is_made(monkeypatch):
    """The largest 2-d tensor that any operator returns is a chunk."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(tensor, torch.Tensor) and tensor.dim() == 2:
                    self.numel = max(self.numel, tensor.numel())
            return out

    learner, teacher = output(1), output(2)
    with Largest() as largest:
        result = transfer_loss(learner, alone(teacher), targets(), Objective(JSD_MIXTURE, 0.5), 4)
        result.loss.backward()
    assert largest.numel == max(4 * V, V * D)
    assert largest.numel < N * V


needs_compiler = pytest.mark.skipif(not hasattr(torch, "compile"), reason="torch 1 has no compiler")


def assert_compiled_is_the_same(divergence):
    objective = Objective(divergence, 0.5, 0.1)
    results = []
    for kernel in ("eager", "compiled"):
        learner = output(1)
        result = transfer_loss(learner, alone(output(2)), targets(), objective, 10, kernel)
        results.append((result.loss, *gradients(result.loss, learner)))
    for plain, fused in zip(*results, strict=True):
        torch.testing.assert_close(fused, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.extended
@needs_compiler
def test_compiled_is_the_same():
    """Without vector instructions, which PyTorch would first try with the C++ compiler."""
    from torch._inductor import config

    with config.patch({"cpp.vec_isa_ok": False}):
        assert_compiled_is_the_same(BACKWARD_KL.restricted(5, "generalized"))


@pytest.mark.extended
@needs_compiler
@pytest.mark.parametrize("divergence", [JSD_MIXTURE, JensenShannon(), AlphaBeta()], ids=repr)
def test_what_the_compiler_sees_is_the_same(divergence, monkeypatch):
    """All of the divergence is in its graph; for the code that it makes of one, see above."""
    compiled = torch.compile(row_losses, dynamic=True, fullgraph=True, backend="aot_eager")
    monkeypatch.setattr(chunked, "compiled_row_losses", lambda: compiled)
    assert_compiled_is_the_same(divergence)
