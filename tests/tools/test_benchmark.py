"""The benchmark: its reference is right, its numbers are what they are called, its errors a line.

No test asserts a time.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark import (
    children,
    corpus,
    kernels,
    measure,
    memory,
    missed,
    peers,
    report,
    runner,
    scaling,
    sizes,
    tables,
)
from benchmark.__main__ import main
from benchmark.cases import CASES, PlainCase
from benchmark.runner import CROSS_ENTROPY, TEACHER, Case, Plan
from benchmark.workspace import Setting, prepare

from ka_fairseq.errors import UserError
from tests.support import ROOT

pytestmark = pytest.mark.extended

CRITERIONS = sizes.CRITERIONS
QUICK = Setting("iwslt15_th_en", 200, 96, 2, "fp32", "cpu", quick=True)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("benchmark") / "work", QUICK)


def request_for(workspace, case, criterion):
    options = workspace.options(criterion, case)
    batches = workspace.batches
    return measure.Request(case, options, batches, "cpu", "fp32", 0, steps=2, warm_up=0)


def first_batch(bench, batches):
    dataset = bench.task.dataset("train")
    return dataset.collater([dataset[index] for index in batches[0]])


@pytest.mark.parametrize("criterion", CRITERIONS)
def test_the_plain_reference_has_the_criterions_loss_and_gradient(workspace, criterion):
    bench = measure.build(request_for(workspace, "plain", criterion), torch.device("cpu"))
    case, sample = PlainCase(bench), first_batch(bench, workspace.batches)
    assert case.difference(sample) < 1e-5
    bench.model.eval()
    gradients = []
    for loss in (case.loss(sample), bench.criterion(bench.model, sample)[0]):
        bench.model.zero_grad()
        loss.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in bench.model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("criterion", sizes.MORE)
def test_the_others_are_measured_without_a_plain_reference(workspace, criterion):
    cases = runner.cases_of([criterion], sizes.VARIANTS)
    assert Case(criterion, "plain") not in cases and Case(criterion, "cached") in cases
    bench = measure.build(request_for(workspace, "chunked", criterion), torch.device("cpu"))
    loss, _, log = bench.criterion(bench.model, first_batch(bench, workspace.batches))
    assert loss > 0 and ("nhard" in log) == criterion.startswith("hard")
    kinds = {"hard-batch": "BackwardKlCriterion", "tie_kd": "TieKDCriterion"}
    kinds["hard-global"] = kinds["hard-batch"]
    assert type(bench.criterion).__name__ == kinds.get(criterion, "AnyTransferCriterion")


def test_what_needs_no_teacher_is_one_case_beside_fairseqs(workspace):
    name = sizes.WITHOUT_TEACHER
    cases = runner.cases_of(["backward_kl", name], ["chunked", "cached"])
    assert [case for case in cases if case.criterion == name] == [Case(name)]
    results = [
        measure.measure(request_for(workspace, kind, kind)) for kind in ("cross_entropy", name)
    ]
    assert results[0].tokens == results[1].tokens
    assert all(result.teacher_weights == 0 and result.loss_alone for result in results)
    losses = []
    for kind in ("cross_entropy", name):
        torch.manual_seed(1)
        bench = measure.build(request_for(workspace, kind, kind), torch.device("cpu"))
        batch = first_batch(bench, workspace.batches)
        losses.append(bench.criterion(bench.model.eval(), batch)[0].item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_the_plain_reference_leaves_padding_out(workspace):
    bench = measure.build(request_for(workspace, "plain", "backward_kl"), torch.device("cpu"))
    bench.model.eval()
    case, dataset = PlainCase(bench), bench.task.dataset("train")
    short = min(range(len(dataset)), key=lambda index: len(dataset[index]["target"]))
    long = max(range(len(dataset)), key=lambda index: len(dataset[index]["target"]))
    together = dataset.collater([dataset[short], dataset[long]])
    assert together["target"].eq(bench.padding).any()
    apart = sum(case.loss(dataset.collater([dataset[index]])) for index in (short, long))
    torch.testing.assert_close(case.loss(together), apart)


def test_a_reference_that_is_off_stops_the_measurement(workspace, monkeypatch):
    monkeypatch.setattr(PlainCase, "difference", lambda self, sample: 2e-4)
    with pytest.raises(RuntimeError, match=r"2\.0e-04 off the criterion's"):
        measure.measure(request_for(workspace, "plain", "forward_kl"))


def test_a_cache_that_was_not_built_is_no_measurement(workspace):
    with pytest.raises(RuntimeError, match="no answers for this batch"):
        measure.measure(request_for(workspace, "cached", "forward_kl"))


@pytest.mark.parametrize(
    ("pair", "role", "encoder", "decoder"),
    [
        ("wmt17_de_en", "learner", (6, 512, 4), (1, 512, 4)),
        ("wmt17_de_en", "teacher", (6, 1024, 16), (6, 1024, 16)),
        ("iwslt15_th_en", "learner", (1, 128, 1), (1, 128, 1)),
        ("iwslt15_th_en", "teacher", (3, 256, 2), (1, 256, 2)),
    ],
)
def test_the_models_are_table_1s(pair, role, encoder, decoder):
    options = getattr(sizes, f"{role}_options")(pair, quick=False)
    for side, numbers in (("encoder", encoder), ("decoder", decoder)):
        names = (f"--{side}-layers", f"--{side}-embed-dim", f"--{side}-attention-heads")
        assert tuple(int(options[options.index(name) + 1]) for name in names) == numbers


@pytest.mark.parametrize("pair", sizes.PAIRS)
def test_lengths_are_those_documented(pair):
    lengths = sizes.PAIRS[pair].lengths
    drawn = corpus.draw_lengths(lengths, 10_000, np.random.default_rng(0))
    logarithms = np.log(drawn)
    assert drawn.mean(0) == pytest.approx([lengths.source_mean, lengths.target_mean], rel=0.03)
    sigmas = [lengths.source_sigma, lengths.target_sigma]
    assert logarithms.std(0) == pytest.approx(sigmas, rel=0.05)
    found = np.corrcoef(logarithms.T)[0, 1]
    assert found == pytest.approx(lengths.correlation, abs=0.03)


def test_fairseq_reads_the_batches_that_were_chosen(workspace):
    bench = measure.build(request_for(workspace, "chunked", "topk_kl"), torch.device("cpu"))
    dataset = bench.task.dataset("train")
    assert sorted(itertools.chain(*workspace.batches)) == list(range(len(dataset)))
    assert len(bench.task.target_dictionary) == QUICK.types
    for batch in workspace.batches:
        sample = dataset.collater([dataset[index] for index in batch])
        assert sample["target"].numel() <= QUICK.tokens
        assert sample["net_input"]["src_tokens"].numel() <= QUICK.tokens
        assert int(sample["target"].max()) < QUICK.types


def test_the_peak_is_that_since_the_reset():
    device = torch.device("cpu")
    memory.release(device)
    memory.reset(device)
    before = memory.peak(device)
    block = torch.ones(25_000_000)
    assert memory.peak(device) >= before + 95e6
    del block
    assert memory.peak(device) >= before + 95e6
    memory.release(device)  # a test before may have had the process keep what is freed
    memory.reset(device)
    assert memory.peak(device) < before + 50e6


# -- on a GPU, as far as can be seen without one --------------------------------------------------

CUDA = torch.device("cuda")


def test_a_gpus_work_is_done_before_the_clock_is_read(monkeypatch):
    events = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(device))
    monkeypatch.setattr(measure.time, "perf_counter", lambda: events.append("clock") or 0.0)
    assert measure.timed(lambda: events.append("run"), CUDA) == 0
    assert events == [CUDA, "clock", "run", CUDA, "clock"]


def test_a_gpus_memory_is_what_torch_has_there(monkeypatch):
    asked = {"memory_allocated": 3, "max_memory_allocated": 7, "reset_peak_memory_stats": None}
    calls = []
    for name, answer in asked.items():
        monkeypatch.setattr(
            torch.cuda, name, lambda device, name=name, answer=answer: calls.append(name) or answer
        )
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: calls.append("empty_cache"))
    memory.release(CUDA)
    memory.reset(CUDA)
    assert (memory.held(CUDA), memory.peak(CUDA)) == (3, 7)
    assert calls == ["empty_cache", "reset_peak_memory_stats", *list(asked)[:2]]


def test_every_tensor_of_a_batch_goes_to_the_device_anew(workspace, monkeypatch):
    """``meta`` is not the CPU: what would be left behind on a GPU is left behind there."""
    request = request_for(workspace, "chunked", "backward_kl")
    dataset = measure.build(request, torch.device("cpu")).task.dataset("train")
    reader = measure.Reader(dataset, workspace.batches, torch.device("meta"))
    first = reader[0]
    monkeypatch.setattr(reader, "put_together", None)  # the second time nothing is read
    second = reader[0]
    tensors = {"id", "target", "src_tokens", "src_lengths", "prev_output_tokens"}
    for name in tensors:
        one, other = ({**batch, **batch["net_input"]}[name] for batch in (first, second))
        assert one.device.type == other.device.type == "meta"
        assert one is not other and one.shape == other.shape


def test_weights_on_a_gpu_are_counted_there_alone(workspace):
    task = measure.build(
        request_for(workspace, "teacher", "cross_entropy"), torch.device("cpu")
    ).task
    (member,) = task.teacher.members
    all_of_them = sum(parameter.numel() for parameter in member.parameters())
    assert measure.teacher_weights(task, torch.device("cpu"), cached=False) == 4 * all_of_them
    assert measure.teacher_weights(task, CUDA, cached=False) == 0


@pytest.mark.parametrize("dtype", ["fp16", "int8"])
def test_with_a_cache_a_gpu_holds_the_projection_alone_in_half_precision(workspace, dtype):
    request = request_for(workspace, "cached", "backward_kl")
    folder = str(workspace.folder / f"no-cache-{dtype}")
    options = [*request.options, "--teacher-cache-dtype", dtype, "--teacher-cache", folder]
    bench = measure.build(replace(request, options=options), torch.device("cpu"))
    projection = bench.task.teacher.members[0].decoder.output_projection.weight
    assert measure.teacher_weights(bench.task, CUDA, cached=True) == 2 * projection.numel()


# -- peers -----------------------------------------------------------------------------------------


def test_a_peer_is_its_package_with_the_file_that_has_the_loss(tmp_path, monkeypatch):
    monkeypatch.setitem(peers.PACKAGES, "liger", ("some-kernel", "some_kernel", "loss/jsd.py"))
    assert not peers.installed("liger")
    (tmp_path / "some_kernel" / "loss").mkdir(parents=True)
    (tmp_path / "some_kernel" / "__init__.py").write_text("raise ImportError", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    assert not peers.installed("liger")  # an older release
    (tmp_path / "some_kernel" / "loss" / "jsd.py").touch()
    assert peers.installed("liger")


@pytest.mark.parametrize("peer", peers.PACKAGES)
@pytest.mark.parametrize("criterion", peers.BETA)
def test_a_peer_computes_the_same_loss_and_gradient(workspace, monkeypatch, peer, criterion):
    """Without label smoothing; Liger's is a mean, and TRL's has no NLL."""
    if not peers.installed(peer):
        pytest.skip(f"{peers.PACKAGES[peer][0]} is not installed")
    bench = measure.build(request_for(workspace, "chunked", criterion), torch.device("cpu"))
    sample = first_batch(bench, workspace.batches)
    bench.model.eval()
    objective = replace(
        bench.criterion.objective,
        label_smoothing=0.0,
        transfer_weight=1.0 if peer == "trl" else bench.criterion.objective.transfer_weight,
    )
    monkeypatch.setattr(bench.criterion, "objective", objective)
    gradients = []
    for case, scale in (("chunked", 1.0), (peer, sample["ntokens"] if peer == "liger" else 1.0)):
        bench.model.zero_grad()
        CASES[case](bench).step(sample)
        gradients.append(scale * torch.cat([p.grad.flatten() for p in bench.model.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


# -- what fails, and what there is no time for -----------------------------------------------------


@pytest.fixture
def processes(workspace, monkeypatch):
    """No process runs: each case has a figure, or fails as the test says."""

    def processes(**failures):
        def one(_, case, plan, deadline):
            error = failures.get(case.variant or case.criterion)
            if error is not None:
                raise error
            result = measure.Result([[1.0]], [[1.0]], [1.0], [10], [12])
            return result

        monkeypatch.setattr(runner, "one", one)
        return lambda cases, plan: runner.run(workspace, cases, plan)

    return processes


FAILED = children.ProcessError("RuntimeError: no such kernel")
PLAN = Plan(repeats=2, steps=1, warm_up=0, threads=0)


def test_what_fails_stops_all_or_is_left_out(processes):
    cases = runner.cases_of(["backward_kl"], ["chunked", "compiled"])
    run = processes(compiled=FAILED)
    with pytest.raises(UserError, match="measuring backward_kl compiled failed: RuntimeError: no"):
        run(cases, PLAN)
    rows, (problem,) = run(cases, replace(PLAN, keep_going=True))
    assert problem.failed and str(problem) == "backward_kl compiled: RuntimeError: no such kernel"
    assert len(rows) == 6 and set(rows.variant) == {"", "chunked"}
    assert len(tables.summary(tables.Measured(rows))) == 5


def test_nothing_can_be_said_without_the_floor(processes):
    run = processes(teacher=FAILED)
    with pytest.raises(UserError, match="measuring teacher failed"):
        run([CROSS_ENTROPY, TEACHER], replace(PLAN, keep_going=True))


@pytest.mark.parametrize("failure", [{"liger": FAILED}, {"chunked": children.OutOfTime("ended")}])
def test_peers_and_time_are_no_failures(processes, failure):
    cases = runner.cases_of(["backward_kl", "topk_kl"], ["chunked", "liger"])
    assert Case("topk_kl", "liger") not in cases
    rows, problems = processes(**failure)(cases, PLAN)
    assert {problem.case.variant for problem in problems} == set(failure)
    assert not any(problem.failed for problem in problems)
    assert not set(rows.variant) & set(failure)


def test_no_process_is_begun_or_runs_beyond_its_time():
    with pytest.raises(children.OutOfTime, match="left out"):
        children.run_module("benchmark.nothing", seconds=0)
    with pytest.raises(children.OutOfTime, match="ended"):
        children.run_module("timeit", "-n", "1", "import time; time.sleep(60)", seconds=0.5)


def test_compiled_is_chunked_with_its_option(workspace):
    chunked, compiled = (workspace.options("forward_kl", case) for case in ("chunked", "compiled"))
    assert compiled == [*chunked, "--loss-kernel", "compiled"]
    named = replace(workspace, setting=replace(QUICK, kernel="eager"))
    assert named.options("forward_kl", "chunked") == [*chunked, "--loss-kernel", "eager"]
    assert named.options("forward_kl", "triton") == [*chunked, "--loss-kernel", "triton"]
    assert named.options("forward_kl", "plain") == workspace.options("forward_kl", "plain")
    cases = runner.cases_of(["js", "topk_kl"], ["chunked", "triton"])
    assert Case("js", "triton") in cases and Case("topk_kl", "triton") not in cases


def test_further_passes_have_no_plain_reference(workspace):
    cases = runner.cases_of(["backward_kl", "tie_kd"], ["plain", "chunked", "cached"])
    variants = {
        name: [case.variant for case in cases if case.criterion == name]
        for name in ("backward_kl", "tie_kd")
    }
    assert variants == {
        "backward_kl": ["plain", "chunked", "cached"],
        "tie_kd": ["chunked", "cached"],
    }
    measured = measure.measure(request_for(workspace, "chunked", "tie_kd"))
    assert len(measured.step) == len(workspace.batches) and min(map(min, measured.step)) > 0


# -- the tables, from measurements whose answers are known -----------------------------------------


def measurements(**steps):
    """Two repeats, the second twice as slow; case names with __ between criterion and variant."""
    rows = []
    for repeat in (0, 1):
        for name, milliseconds in steps.items():
            criterion, _, variant = name.partition("__")
            row = {"repeat": repeat, "criterion": criterion, "variant": variant, "tokens": 100}
            row |= {"step_ms": milliseconds * (1 + repeat), "loss_alone_ms": 10.0 * (1 + repeat)}
            row |= {"reading_ms": 1.0, "padded_tokens": 110, "before_mb": 50, "difference": None}
            row |= {"peak_mb": 100 if criterion == "cross_entropy" else 450}
            rows.append(row | {"teacher_mb": 0 if criterion == "cross_entropy" else 40})
    return tables.Measured(pd.DataFrame(rows))


KNOWN = {
    "cross_entropy": 100.0,
    "teacher": 60.0,
    "products": 150.0,
    "backward_kl__plain": 240.0,
    "backward_kl__chunked": 168.0,
    "backward_kl__cached": 121.0,
    "topk_kl__cached": 107.0,
    "tie_kd__chunked": 400.0,
    "js__chunked": 176.0,
}


def test_ratios_are_taken_within_a_repeat():
    rows = {(r["criterion"], r["variant"]): r for r in tables.summary(measurements(**KNOWN))}
    chunked = rows["backward_kl", "chunked"]
    assert chunked["step_ms"] == 252 and chunked["step_ms_iqr"] == 84
    assert chunked["to_floor"] == pytest.approx(1.05) and chunked["to_floor_iqr"] == 0
    assert chunked["to_cross_entropy"] == pytest.approx(1.68)
    assert chunked["tokens_per_second"] == pytest.approx((100 / 0.168 + 100 / 0.336) / 2)
    assert chunked["over_cross_entropy_mb"] == 350
    assert chunked["over_cross_entropy_and_teacher_mb"] == 310
    assert rows["floor", ""]["to_cross_entropy"] == pytest.approx(1.6)
    assert rows["teacher", "projection"]["step_ms"] == 15


def test_bounds_are_judged_where_they_apply():
    measured = measurements(**KNOWN)
    large = replace(QUICK, pair="wmt17_de_en", types=40_000, tokens=8192, quick=False)

    def judged(setting):
        found = tables.bounds(measured, setting)
        return {bound.what: (round(bound.measured, 3), bound.verdict) for bound in found}

    verdicts = judged(large)
    assert verdicts["backward_kl, teacher run at every step ÷ floor"] == (1.05, "met")
    assert verdicts["tie_kd, teacher run at every step ÷ floor"] == (2.5, "met")
    assert verdicts["js, teacher run at every step ÷ floor"] == (1.1, "met")
    assert verdicts["topk_kl with cache ÷ cross-entropy step"] == (1.07, "met")
    # 121 / (100 + 10)
    what = "backward_kl with cache ÷ (cross-entropy step + the teacher's projection)"
    assert verdicts[what] == (1.1, "not met")
    assert verdicts["backward_kl, chunked ÷ plain, step"] == (0.7, "met")
    what = "backward_kl, chunked ÷ plain, loss alone"
    assert verdicts[what] == (1.0, "not met; without a loss: 1.000")
    what = (
        "backward_kl chunked: peak memory minus the peak of the cross-entropy step and the "
        "teacher's weights"
    )
    assert verdicts[what] == (310, "not met")
    on_a_gpu = judged(replace(large, device="cuda"))
    verdict = on_a_gpu["backward_kl, chunked ÷ plain, step"]
    assert verdict == (0.7, "not met; without a loss: 0.625")
    small = judged(replace(large, types=10_000, tokens=2048))
    assert "40,000 types" in small["backward_kl, chunked ÷ plain, step"][1]
    assert "8,000 tokens" in small[what][1]
    assert all("not judged" in verdict for _, verdict in judged(QUICK).values())


# -- what a time that missed its bound is made of --------------------------------------------------


@pytest.mark.parametrize("part", ["step", "loss_alone"])
def test_a_profile_names_what_takes_the_most_time(workspace, part):
    request = replace(request_for(workspace, "chunked", "backward_kl"), profile=part, warm_up=1)
    result = measure.measure(request)
    found = [kernels.Kernel(**kernel) for kernel in result.kernels]
    assert not result.step and len(found) == kernels.TOP
    assert found == sorted(found, key=lambda kernel: -kernel.ms)
    assert 0 < sum(kernel.share for kernel in found) <= 100
    assert any(kernel.name in ("aten::mm", "aten::addmm") for kernel in found)
    assert all(kernel.calls > 0 for kernel in found)


def test_each_time_that_missed_its_bound_is_looked_into_once(workspace, monkeypatch, tmp_path):
    chunked, cached = Case("backward_kl", "chunked"), Case("topk_kl", "cached")
    bounds = [
        tables.Bound("a", 1.0, 2.0, case=chunked),
        tables.Bound("the same step", 1.0, 2.0, case=chunked),
        tables.Bound("alone", 1.0, 2.0, case=chunked, part="loss_alone"),
        tables.Bound("met", 1.0, 1.0, case=cached),
        tables.Bound("not judged", 1.0, 2.0, applies=False, case=cached),
        tables.Bound("memory", 1.0, 2.0, "MB", case=cached, part=""),
    ]
    assert missed.times(bounds) == [(chunked, "step"), (chunked, "loss_alone")]
    long = kernels.Kernel("void kernel<" + "float, " * 30 + "a|b>", 2.0, 1.5, 75.0)

    def one(_, case, plan, deadline, profile):
        if profile == "step":
            raise children.OutOfTime("ended: the time limit was reached")
        return measure.Result(kernels=[vars(long)])

    monkeypatch.setattr(runner, "one", one)
    found = list(missed.profiles(workspace, bounds, PLAN, deadline=0.0))
    rows = measurements(**KNOWN)
    about = {"Measured": "never", "Notes": []}
    text = report.write(
        *(tmp_path, QUICK, pd.DataFrame(), tables.summary(rows), bounds, about, (), found)
    )
    assert "Missed: backward_kl chunked, step\n\nended: the time limit was reached" in text
    (line,) = (line for line in text.splitlines() if line.startswith("| void kernel<"))
    assert line.count("|") == 5 and len(line) < 140
    assert line.split("|")[2:5] == ["       2 ", " 1.50 ", "     75 % "]
    name = report.name_of(QUICK)
    written = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["profiles"]
    assert [profile["part"] for profile in written] == ["step", "loss_alone"]
    assert written[1]["kernels"][0]["ms"] == 1.5


def test_the_profile_is_taken_in_a_process_of_its_own(workspace):
    bounds = [tables.Bound("pretended", 0.0, 1.0, case=Case("backward_kl", "chunked"))]
    (profile,) = missed.profiles(workspace, bounds, Plan(1, 1, 0, 1), math.inf)
    assert len(profile.kernels) == kernels.TOP and not profile.problem


def test_a_gpus_kernels_are_not_counted_a_second_time_with_what_calls_them():
    class Operator:
        device_type = torch.autograd.DeviceType.CPU
        self_cpu_time_total, self_device_time_total = 7.0, 5.0

    class OnTheGpu(Operator):
        device_type = torch.autograd.DeviceType.CUDA

    class Older:  # before torch 2.4
        device_type = torch.autograd.DeviceType.CUDA
        self_cuda_time_total = 3.0

    assert kernels.own_time(Operator(), torch.device("cpu")) == 7
    assert [kernels.own_time(e, CUDA) for e in (Operator(), OnTheGpu(), Older())] == [0, 5, 3]


def test_what_does_not_fit_is_left_out_of_the_plot(workspace, tmp_path):
    huge = replace(workspace, setting=replace(QUICK, tokens=10**7, types=10**6))
    case, plan = Case("backward_kl", "plain"), Plan(1, 1, 0, 0)
    assert scaling.figures(huge, case, plan) == {}  # no process was started, nothing allocated
    rows = pd.DataFrame(
        {"grows": grows, "types": 10_000, "max_tokens": tokens, "repeat": 0, "before_mb": 5.0}
        | {"criterion": name, "variant": variant, "step_ms": figure, "peak_mb": figure}
        for grows in ("tokens", "types")
        for name, variant in (("cross_entropy", ""), ("backward_kl", "plain"))
        for tokens, figure in ((1024, 10.0), (2048, None if variant else 20.0))
    )
    about = {"Measured": "never", "Notes": []}
    text = scaling.write(tmp_path, QUICK, rows, about)
    assert "| backward_kl plain | 10.0 |" in " ".join(text.split())
    name = "iwslt15_th_en-cpu-quick-scaling"
    assert {path.suffix for path in tmp_path.glob(f"{name}.*")} == {
        *(".md", ".csv", ".json", ".png", ".svg")
    }
    found = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))["measurements"]
    assert [row["step_ms"] for row in found[:4]] == [10.0, 20.0, 10.0, None]
    assert "mathdefault" not in (tmp_path / f"{name}.svg").read_text(encoding="utf-8")


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pair", "klingon"], "argument --pair: invalid choice: 'klingon'"),
        (["--criterions", "hinge"], "invalid choice: 'hinge'"),
        (["--tokens", "0"], "--tokens must be 1 or more, not 0"),
        (["--tokens", "10"], "--tokens must be 32 or more, not 10"),
        (["--types", "7"], "--types must be 100 or more, not 7"),
        (["--threads", "-1"], "--threads must be 0"),
        (["--warm-up", "-1"], "--warm-up must be 0 or more, not -1"),
        (["--steps", "2"], "pass --steps 4 or --batches 2"),
        (["--precision", "bf16"], "--precision bf16 is for --device cuda"),
        (["--scaling", "--criterions", "topk_kl", "forward_kl"], "measures one criterion"),
        (["--scaling", "--criterions", sizes.WITHOUT_TEACHER], "needs a teacher"),
        (["--scaling", "--batches", "3"], "measures one batch"),
        (["--scaling", "--keep-going"], "leave --keep-going and --time-limit out"),
        (["--time-limit", "0"], "--time-limit must be 1 or more, not 0"),
        (["--frobnicate"], "unrecognized arguments: --frobnicate"),
    ],
)
def test_a_mistake_is_one_line(arguments, says):
    with pytest.raises(UserError) as error:
        main(arguments)
    assert says in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line():
    with pytest.raises(UserError, match="torch finds no GPU here: choose --device cpu"):
        main(["--device", "cuda"])


def test_a_process_that_fails_tells_its_last_line(workspace):
    with pytest.raises(children.ProcessError, match=r"No module named benchmark\.nothing"):
        children.run_module("benchmark.nothing")
    no_steps = replace(workspace, batches=[[10**6]])
    with pytest.raises(UserError, match="measuring cross_entropy failed: "):
        runner.run(no_steps, [CROSS_ENTROPY], Plan(1, 1, 0, 1))


def test_processes_have_the_pipelines_settings_or_the_users(monkeypatch):
    children.environment.cache_clear()
    monkeypatch.setenv("OMP_WAIT_POLICY", "the user's")
    assert children.environment(tuned=False) == dict(os.environ)
    assert children.environment(tuned=True)["MALLOC_TRIM_THRESHOLD_"]
    assert children.environment(tuned=True)["OMP_WAIT_POLICY"] == "the user's"
    children.environment.cache_clear()


IDLING = """
import sys
import time
from pathlib import Path
from benchmark.workspace import Setting, prepare
prepare(Path(sys.argv[1]), Setting("iwslt15_th_en", 10_000, 96, 1, "fp32", "cpu", quick=False))
before = time.process_time()
time.sleep(1)
print(time.process_time() - before)
"""


@pytest.mark.slow
def test_no_thread_spins_beside_the_measurements(tmp_path):
    words = [sys.executable, "-c", IDLING, str(tmp_path / "work")]
    paths = os.pathsep.join([str(ROOT / "scripts"), str(ROOT)])
    spinning = {"OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "ACTIVE"}
    variables = {**os.environ, **spinning, "PYTHONPATH": paths}
    result = subprocess.run(words, capture_output=True, text=True, check=True, env=variables)
    assert float(result.stdout) < 0.5


@pytest.mark.slow
def test_a_quick_run_measures_every_row(tmp_path):
    script = str(ROOT / "scripts" / "benchmark.py")
    criterions = ("backward_kl", "topk_kl")
    options = ("--quick", "--repeats", "1", "--threads", "1", "--output", str(tmp_path))
    options += ("--criterions", *criterions)
    result = subprocess.run(
        [sys.executable, script, *options], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    name = "iwslt15_th_en-cpu-quick"
    assert result.stdout.strip() == (tmp_path / f"{name}.md").read_text(encoding="utf-8").strip()
    content = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    rows = {(row["criterion"], row["variant"]): row for row in content["cases"]}
    assert set(rows) == {
        *(("cross_entropy", ""), ("teacher", ""), ("teacher", "projection"), ("floor", "")),
        ("products", ""),
        *((criterion, variant) for criterion in criterions for variant in sizes.VARIANTS),
    }
    for row in rows.values():
        assert row["step_ms"] > 0 and row["to_floor"] > 0 and row["to_cross_entropy"] > 0
    for criterion in criterions:
        assert f"| {criterion} " in result.stdout
        assert rows[criterion, "plain"]["loss_alone_ms"] > 0
        assert rows[criterion, "cached"]["tokens_per_second"] > 0
    judged = [bound["what"] for bound in content["bounds"]]
    assert sum("teacher run at every step ÷ floor" in what for what in judged) == 2
    assert sum("chunked ÷ plain" in what for what in judged) == 4
    assert sum("peak memory" in what for what in judged) == 4
    measured = pd.read_csv(tmp_path / f"{name}.csv")
    assert len(measured) == 9
    assert measured[measured.variant == "plain"].difference.max() < 1e-4
    assert {"Hardware", "Versions"} <= set(content["about"])
