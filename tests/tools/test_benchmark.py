"""The benchmark: its reference is right, its numbers are what they are called, its errors a line.

No test asserts a time.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from benchmark import corpus, measure, memory, report, scaling, sizes
from benchmark.__main__ import main
from benchmark.cases import PlainCase
from benchmark.processes import CROSS_ENTROPY, Case, Setting, Workspace, cases_of, environment, run
from gpu_probe import peers
from pipeline.engine import commands
from pipeline.engine.errors import PipelineError

from ka_fairseq.errors import UserError
from ka_fairseq.loss.chunked import transfer_loss
from ka_fairseq.loss.ensemble import TeacherOutput
from ka_fairseq.loss.positions import select
from tests import forking
from tests.support import ROOT

pytestmark = pytest.mark.extended

CRITERIONS = sizes.CRITERIONS
QUICK = Setting("iwslt15_th_en", 200, 96, 2, quick=True, steps=2)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return Workspace(tmp_path_factory.mktemp("benchmark"), QUICK)


def request_for(workspace, kind, criterion):
    case = Case(kind) if kind in ("teacher", criterion) else Case(criterion, kind)
    options, batches = workspace.options(case), workspace.batches
    return measure.Request(kind, options, batches, "cpu", "fp32", 0, steps=2, warm_up=0)


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
    cases = cases_of([criterion], sizes.VARIANTS)
    assert Case(criterion, "plain") not in cases and Case(criterion, "cached") in cases
    bench = measure.build(request_for(workspace, "chunked", criterion), torch.device("cpu"))
    loss, _, log = bench.criterion(bench.model, first_batch(bench, workspace.batches))
    assert loss > 0 and ("nhard" in log) == criterion.startswith("hard")
    kinds = {"hard-batch": "BackwardKlCriterion", "tie_kd": "TieKDCriterion"}
    kinds["hard-global"] = kinds["hard-batch"]
    assert type(bench.criterion).__name__ == kinds.get(criterion, "AnyTransferCriterion")


def test_what_needs_no_teacher_is_one_case_beside_fairseqs(workspace):
    name = sizes.WITHOUT_TEACHER
    cases = cases_of(["backward_kl", name], ["chunked", "cached"])
    assert [case for case in cases if case.criterion == name] == [Case(name)]
    results = [
        measure.measure(request_for(workspace, kind, kind)) for kind in ("cross_entropy", name)
    ]
    assert results[0]["tokens"] == results[1]["tokens"]
    assert all(found["teacher_mb"] == 0 and found["loss_alone_ms"] > 0 for found in results)
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
    options = sizes.model_options(pair, role, quick=False)
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
def test_a_peer_computes_the_same_gradient(workspace, peer, criterion):
    """Without label smoothing; Liger's is a mean, and TRL's has no NLL."""
    if not peers.installed(peer):
        pytest.skip(f"{peers.PACKAGES[peer][0]} is not installed")
    bench = measure.build(request_for(workspace, "chunked", criterion), torch.device("cpu"))
    sample = first_batch(bench, workspace.batches)
    bench.model.eval()
    rows = bench.rows(sample)
    learner, teacher = bench.leaf(sample, rows), bench.teacher_output(sample, rows)
    targets = select(sample["target"], rows)
    weight = 1.0 if peer == "trl" else bench.objective.transfer_weight
    objective = replace(bench.objective, label_smoothing=0.0, transfer_weight=weight)
    ours = transfer_loss(learner, TeacherOutput([teacher]), targets, objective).loss
    theirs = getattr(peers, f"{peer}_loss")(learner, teacher, targets, objective)
    theirs = theirs * (len(targets) if peer == "liger" else 1)
    leaves = (learner.hidden, learner.weight)
    gradients = (torch.autograd.grad(loss, leaves) for loss in (ours, theirs))
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-5)


# -- what fails, and what there is no time for -----------------------------------------------------


class Processes(Workspace):
    """No process runs: each case has a figure, or fails as the test says."""

    def __init__(self, setting=QUICK, **failures):
        self.setting, self.failures = setting, failures

    def build_cache(self, seconds=None):
        pass

    def measure(self, case, seconds=None):
        if message := self.failures.get(case.variant or case.criterion):
            raise PipelineError(message)
        return {"step_ms": 1.0}


def test_what_fails_stops_all():
    cases = cases_of(["backward_kl"], ["chunked", "compiled"])
    with pytest.raises(UserError, match="measuring backward_kl compiled failed: RuntimeError: no"):
        run(Processes(compiled="RuntimeError: no such kernel"), cases)


def test_only_a_case_that_may_not_fit_is_left_out_for_its_memory():
    cases = [CROSS_ENTROPY, Case("backward_kl", "plain")]
    full = Processes(plain="killed by SIGKILL (too little memory?)")
    assert list(run(full, cases, may_not_fit=True).criterion) == ["cross_entropy"]
    with pytest.raises(UserError, match="too little memory"):
        run(full, cases)


def test_no_process_begins_after_the_time_limit():
    assert run(Processes(), [CROSS_ENTROPY], deadline=0.0).empty


def test_each_repeat_measures_every_case_in_another_order():
    cases = cases_of(sizes.CRITERIONS, sizes.VARIANTS)
    rows = run(Processes(replace(QUICK, repeats=2)), cases)
    first, second = (
        [Case(*names) for names in zip(half.criterion, half.variant, strict=True)]
        for _, half in rows.groupby("repeat")
    )
    assert first == cases != second and sorted(second) == sorted(cases)


def test_what_is_not_expected_to_fit_is_not_tried():
    plain, chunked = (Case("backward_kl", name) for name in ("plain", "chunked"))
    huge = replace(QUICK, tokens=10**6, types=10**6)
    assert scaling.fits(plain, QUICK) and scaling.fits(chunked, huge)
    assert not scaling.fits(plain, huge)


def test_compiled_is_chunked_with_its_option(workspace):
    chunked, compiled = (
        workspace.options(Case("forward_kl", name)) for name in ("chunked", "compiled")
    )
    assert compiled == [*chunked, "--loss-kernel", "compiled"]


# -- the tables, from measurements whose answers are known -----------------------------------------


def measurements(**steps):
    """Two repeats, the second twice as slow; case names with __ between criterion and variant."""
    rows = []
    for repeat in (0, 1):
        for name, milliseconds in steps.items():
            criterion, _, variant = name.partition("__")
            row = {"repeat": repeat, "criterion": criterion, "variant": variant, "tokens": 100}
            row |= {"step_ms": milliseconds * (1 + repeat), "loss_alone_ms": 10.0 * (1 + repeat)}
            row |= {"peak_mb": 100 if criterion == "cross_entropy" else 450}
            rows.append(row | {"teacher_mb": 0 if criterion == "cross_entropy" else 40})
    return report.Measured(pd.DataFrame(rows))


KNOWN = {
    "cross_entropy": 100.0,
    "teacher": 60.0,
    "backward_kl__plain": 240.0,
    "backward_kl__chunked": 168.0,
    "backward_kl__cached": 121.0,
    "topk_kl__cached": 107.0,
    "tie_kd__chunked": 400.0,
    "js__chunked": 176.0,
}


def test_ratios_are_taken_within_a_repeat():
    rows = measurements(**KNOWN).summary()
    chunked = rows.loc["backward_kl chunked"]
    assert chunked["step, ms"] == 252 and chunked["IQR"] == 84
    assert chunked["÷ floor"] == pytest.approx(1.05)
    assert chunked["IQR of ÷ floor"] == pytest.approx(0, abs=1e-9)
    assert chunked["÷ CE step"] == pytest.approx(1.68)
    assert chunked["tokens/s"] == pytest.approx((100 / 0.168 + 100 / 0.336) / 2)
    assert chunked["peak over CE, MB"] == 350
    assert chunked["without teacher's weights, MB"] == 310
    assert rows.loc["floor", "÷ CE step"] == pytest.approx(1.6)
    assert rows.loc["teacher projection", "step, ms"] == 15


def test_bounds_are_judged_where_they_apply():
    measured = measurements(**KNOWN)
    large = replace(QUICK, pair="wmt17_de_en", types=40_000, tokens=8192, quick=False)

    def judged(setting):
        found = report.bounds(measured, setting).set_index("what")
        return dict(zip(found.index, zip(found.measured, found.verdict, strict=True), strict=True))

    verdicts = judged(large)
    assert verdicts["backward_kl, teacher run at every step ÷ floor"] == ("1.050", "met")
    assert verdicts["tie_kd, teacher run at every step ÷ floor"] == ("2.500", "met")
    assert verdicts["js, teacher run at every step ÷ floor"] == ("1.100", "met")
    assert verdicts["topk_kl with cache ÷ cross-entropy step"] == ("1.070", "met")
    # 121 / (100 + 10)
    what = "backward_kl with cache ÷ (cross-entropy step + the teacher's projection)"
    assert verdicts[what] == ("1.100", "not met")
    assert verdicts["backward_kl, chunked ÷ plain, step"] == ("0.700", "met")
    what = "backward_kl, chunked ÷ plain, loss alone"
    assert verdicts[what] == ("1.000", "not met")
    what = (
        "backward_kl chunked: peak memory minus the peak of the cross-entropy step and the "
        "teacher's weights"
    )
    assert verdicts[what] == ("310 MB", "not met")
    on_a_gpu = judged(replace(large, device="cuda"))
    verdict = on_a_gpu["backward_kl, chunked ÷ plain, step"]
    assert verdict == ("0.700", "not met")
    small = judged(replace(large, types=10_000, tokens=2048))
    assert "40,000 types" in small["backward_kl, chunked ÷ plain, step"][1]
    assert "8,000 tokens" in small[what][1]
    assert all("not judged" in verdict for _, verdict in judged(QUICK).values())


# -- the command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--pair", "klingon"], "argument --pair: invalid choice: 'klingon'"),
        (["--criterions", "hinge"], "invalid choice: 'hinge'"),
        (["--tokens", "10"], "--tokens: must be a number from 32 up, not 10"),
        (["--threads", "-1"], "--threads: must be a number from 0 up, not -1"),
        (["--steps", "2"], "pass --steps 4 or --batches 2"),
        (["--precision", "bf16"], "--precision bf16 is for --device cuda"),
        (["--time-limit", "soon"], "--time-limit: must be a number from 1 up, not soon"),
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


def test_a_process_that_fails_tells_its_last_line(tmp_path):
    workspace = Workspace(tmp_path, QUICK)
    workspace.batches = [[10**6]]
    with pytest.raises(UserError, match=r"measuring cross_entropy failed: .*Error"):
        run(workspace, [CROSS_ENTROPY])


def test_processes_have_the_pipelines_settings_or_the_users(monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "the user's")
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    environment.cache_clear()
    tuned, as_is = (environment(tuned, 3) for tuned in (True, False))
    environment.cache_clear()
    assert tuned["MALLOC_TRIM_THRESHOLD_"] and "MALLOC_TRIM_THRESHOLD_" not in as_is
    assert tuned["OMP_WAIT_POLICY"] == as_is["OMP_WAIT_POLICY"] == "the user's"
    assert tuned["OMP_NUM_THREADS"] == as_is["OMP_NUM_THREADS"] == "3"


IDLING = """
import sys
import time
from pathlib import Path
from benchmark.processes import Setting, Workspace
Workspace(Path(sys.argv[1]), Setting("iwslt15_th_en", 10_000, 96, 1))
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
def test_the_script_says_a_mistake_in_one_line():
    script = [sys.executable, ROOT / "scripts" / "benchmark.py", "--tokens", "10"]
    result = subprocess.run(script, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: argument --tokens: must be a number from 32 up, not 10")


@pytest.mark.slow
def test_a_quick_run_measures_every_row(tmp_path, monkeypatch, capsys):
    """Each measurement in a process of its own, which is forked."""
    monkeypatch.setattr(commands, "python_module", forking.module_line)
    criterions = ("backward_kl", "topk_kl")
    options = ("--quick", "--repeats", "1", "--threads", "1", "--output", str(tmp_path))
    assert main([*options, "--criterions", *criterions]) == 0
    printed = capsys.readouterr().out
    name = "iwslt15_th_en-cpu-quick"
    assert printed.strip() == (tmp_path / f"{name}.md").read_text(encoding="utf-8").strip()
    cases = [f"{name} {variant}" for name in criterions for variant in sizes.VARIANTS]
    first = [line.split("|")[1].strip() for line in printed.splitlines() if "|" in line]
    assert first[2:12] == [*report.NAMES.values(), *cases]
    assert sum("teacher run at every step ÷ floor" in what for what in first) == 2
    assert sum("chunked ÷ plain" in what for what in first) == 4
    assert sum("peak memory" in what for what in first) == 4
    measured = pd.read_csv(tmp_path / f"{name}.csv")
    assert len(measured) == 8 and measured.step_ms.min() > 0
    assert measured[measured.variant == "plain"].difference.max() < 1e-4
    assert "Hardware: " in printed and "Versions: " in printed
