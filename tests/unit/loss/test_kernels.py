"""Which kernel a loss takes: what can compute it, what works here, and what is said."""

import logging

import pytest
import torch

from ka_fairseq.errors import UserError
from ka_fairseq.loss import chunked, kernels
from ka_fairseq.loss.divergences import BACKWARD_KL, FORWARD_KL, JSD_MIXTURE, divergence_named
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.kernels import COMPILED, EAGER, TRITON, check, choose
from ka_fairseq.loss.objective import Objective
from ka_fairseq.loss.projection import Logits, Projection

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
V = 90


@pytest.fixture(autouse=True)
def nothing_tried(monkeypatch):
    monkeypatch.setattr(kernels, "_TRIED", {})


def works(kernel):
    return None


def choose_on_cuda(trial=works, kernel="auto", divergence=BACKWARD_KL, fuses=True, device=CUDA):
    return choose(kernel, divergence, V, device, fuses, trial)


def without(*broken):
    """A trial in which these kernels fail; what was tried."""

    def trial(kernel):
        trial.tried.append(kernel)
        if kernel in broken:
            raise RuntimeError(f"no compiler for {kernel}\nand more")

    trial.tried = []
    return trial


def test_a_cpu_goes_op_by_op_and_tries_nothing():
    assert choose_on_cuda(pytest.fail, device=CPU) == EAGER
    assert choose_on_cuda(pytest.fail, kernel="eager") == EAGER


@pytest.mark.skipif(not hasattr(torch, "compile"), reason="torch 1 has no compiler")
class TestOnAGpu:
    def test_the_first_that_can_and_works_is_taken_and_tried_once(self, caplog):
        pytest.importorskip("triton")
        trial = without()
        with caplog.at_level(logging.INFO):
            assert [choose_on_cuda(trial) for _ in range(2)] == [TRITON, TRITON]
        assert trial.tried == [TRITON]
        (said,) = caplog.messages
        assert said.startswith("loss kernel: triton, ready after ")

    def test_one_that_fails_is_left_out_with_one_warning_each(self, caplog):
        pytest.importorskip("triton")
        trial = without(TRITON, COMPILED)
        with caplog.at_level(logging.WARNING):
            assert [choose_on_cuda(trial) for _ in range(2)] == [EAGER, EAGER]
        assert trial.tried == [TRITON, COMPILED]
        assert [said.split(": ", 1)[1] for said in caplog.messages] == [
            f"RuntimeError: no compiler for {name}" for name in (TRITON, COMPILED)
        ]

    @pytest.mark.parametrize(
        "divergence", [divergence_named("tvd"), BACKWARD_KL.restricted(5, "tail")]
    )
    def test_what_the_one_kernel_does_not_know_is_compiled(self, divergence):
        assert choose_on_cuda(divergence=divergence) == COMPILED

    def test_an_ensemble_is_compiled(self):
        assert choose_on_cuda(fuses=False) == COMPILED

    def test_what_cannot_be_compiled_goes_op_by_op(self):
        assert choose_on_cuda(pytest.fail, divergence=divergence_named("adaptive_kl")) == EAGER

    @pytest.mark.parametrize("kernel", [TRITON, COMPILED])
    def test_one_that_was_asked_for_and_fails_is_an_error(self, kernel):
        pytest.importorskip("triton")
        with pytest.raises(
            UserError, match=f"--loss-kernel {kernel} does not work here .Runtime.* no"
        ):
            choose_on_cuda(without(kernel), kernel=kernel)

    def test_one_that_was_asked_for_in_vain_is_an_error(self):
        with pytest.raises(UserError, match="--loss-kernel triton cannot compute this loss: leave"):
            choose_on_cuda(kernel=TRITON, fuses=False)


def test_an_unknown_kernel_lists_those_that_there_are():
    with pytest.raises(UserError, match="unknown --loss-kernel 'fast'; choose from auto, triton, "):
        check("fast", "backward_kl", BACKWARD_KL, V)


def test_triton_is_for_the_family_that_it_computes(monkeypatch):
    pytest.importorskip("triton")
    check(TRITON, "backward_kl", BACKWARD_KL, V)
    with pytest.raises(
        UserError, match=r"--loss-kernel triton computes forward_kl, .* not tvd with"
    ):
        check(TRITON, "tvd", divergence_named("tvd"), V)
    monkeypatch.setattr(kernels.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="--loss-kernel triton needs Triton, which comes with"):
        check(TRITON, "backward_kl", BACKWARD_KL, V)


# -- through the loss ------------------------------------------------------------------------------


def outputs(dtype):
    generator = torch.Generator().manual_seed(1)
    learner, teacher = (
        Projection(
            *(
                torch.randn(size, generator=generator).to(dtype).requires_grad_()
                for size in ((7, width), (V, width), (V,))
            )
        )
        for width in (4, 5)
    )
    return learner, TeacherOutput([teacher]), torch.arange(7)


def loss_and_gradients(kernel, dtype, objective, **options):
    learner, teacher, targets = outputs(dtype)
    losses = chunked.transfer_loss(learner, teacher, targets, objective, 3, kernel, **options)
    return losses, torch.autograd.grad(losses.loss, learner.inputs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("divergence", [FORWARD_KL, JSD_MIXTURE])
def test_the_one_kernel_gives_the_loss_of_the_others(divergence, dtype):
    """In chunks, the learner's best tokens included; on a CPU, where it is interpreted."""
    pytest.importorskip("triton")
    objective = Objective(divergence, 0.5, 0.1, accuracy=True)
    found = []
    for kernel in (EAGER, TRITON):
        best = torch.empty(7, dtype=torch.int64)
        found.append((*loss_and_gradients(kernel, dtype, objective, predictions=best), best))
    (eager, of_eager, best), (fused, of_fused, same) = found
    torch.testing.assert_close(fused, eager, rtol=1e-6, atol=1e-6)
    assert torch.equal(best, same)
    epsilon = torch.finfo(dtype).eps
    for one, other in zip(of_fused, of_eager, strict=True):
        torch.testing.assert_close(one, other, rtol=2 * epsilon, atol=2 * epsilon)


def test_finished_logits_take_it_too():
    pytest.importorskip("triton")
    learner, teacher, targets = outputs(torch.float32)
    logits = torch.nn.functional.linear(*learner.inputs).detach()
    gradients = []
    for kernel in (EAGER, TRITON):
        leaf = logits.clone().requires_grad_()
        objective = Objective(BACKWARD_KL, 0.5)
        chunked.transfer_loss(Logits(leaf), teacher, targets, objective, 3, kernel).loss.backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-6)


def test_float64_is_not_for_it():
    pytest.importorskip("triton")
    with pytest.raises(UserError, match="cannot compute this loss"):
        loss_and_gradients(TRITON, torch.float64, Objective(BACKWARD_KL, 0.5))


def test_a_gradient_in_the_factors_precision_is_taken_as_it_is():
    learner = outputs(torch.bfloat16)[0].prepare()
    assert learner.gradient_dtype == learner.weight.dtype == torch.float32  # widened on a CPU
    half = Projection(torch.empty(2, 3), torch.empty(4, 3, dtype=torch.bfloat16), None)
    assert half.gradient_dtype == torch.bfloat16
    scaled = Projection(torch.empty(2, 3), torch.empty(4, 3, dtype=torch.float16), None)
    assert scaled.gradient_dtype == torch.float32


@pytest.mark.extended
@pytest.mark.skipif(not hasattr(torch, "compile"), reason="torch 1 has no compiler")
def test_without_a_c_compiler_it_is_one_line_before_the_first_step(monkeypatch, tmp_path):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing is compiled already
    chunked.compiled_row_losses.cache_clear()
    torch._dynamo.reset()
    with config.patch({"cpp.cxx": (None, "/nowhere/g++")}), pytest.raises(UserError) as error:
        loss_and_gradients(COMPILED, torch.float32, Objective(BACKWARD_KL, 0.5))
    chunked.compiled_row_losses.cache_clear()
    said = str(error.value)
    assert "--loss-kernel compiled does not work here (" in said and "\n" not in said
    assert "C++ compiler" in said and said.endswith("leave out --loss-kernel")
