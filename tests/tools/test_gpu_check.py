"""scripts/gpu_check.sh: what it calls right is right, a failure hides no other, time is kept.

On a CPU, in its small form. No test asserts how long something took.
"""

import json
import math
import signal
import subprocess
import time

import psutil
import pytest
import torch
from gpu_check import environment, parts, report, speed, training, unit_tests
from gpu_check.__main__ import main, names_of
from gpu_check.part import Findings, Job, Outcome, Part, PartError, Setting, attempt

from tests.support import ROOT

pytestmark = pytest.mark.extended


@pytest.fixture
def setting(tmp_path):
    return Setting("cpu", quick=True, folder=tmp_path)


@pytest.fixture
def job(setting):
    return Job("trial", setting, time.monotonic() + 60)


# -- what is called right --------------------------------------------------------------------------


def epochs(*numbers, off=0.0):
    """What fairseq-train logs of epochs: all losses are 2 bits, but for ``off``."""
    return [
        {"epoch": number, what: f"{2 + off * number:.3f}"}
        for number in numbers
        for what in training._COMPARED
    ]


def test_the_same_losses_are_right_and_others_are_not():
    records = {"cached": epochs(1, 2), "resumed": epochs(3), "uncached": epochs(1, 2, 3)}
    rows = training.compare(records, "fp16")
    assert len(rows) == 18 and not list(training.too_far(rows))
    records["resumed"] = epochs(3, off=0.02)  # 0.06 bits in all of the epoch's figures
    errors = list(training.too_far(training.compare(records, "fp16")))
    assert len(errors) == 6 and all("of epoch 3: 0.0600 bits apart" in error for error in errors)
    errors = list(training.too_far(training.compare(records, "bf16")))
    assert len(errors) == 2 and all("teacher_entropy" in error for error in errors)


def test_an_epoch_that_is_missing_is_an_error():
    records = {"cached": epochs(1), "resumed": epochs(3), "uncached": epochs(1, 2, 3)}
    errors = list(training.too_far(training.compare(records, "bf16")))
    assert len(errors) == 6 and all("of epoch 2: inf bits" in error for error in errors)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_loss_that_is_no_number_is_an_error(value):
    records = {"cached": epochs(1), "uncached": [*epochs(1), {"epoch": 1, "nll_loss": value}]}
    (error,) = training.not_finite(records)
    assert error == "uncached: 1 of 7 logged losses are not finite"
    (error,) = training.not_finite({"cached": [{"epoch": 1, "num_updates": "3"}]})
    assert "no loss was logged" in error


def updates(epoch, *numbers):
    return [{"epoch": epoch, "update": 0.5, "num_updates": str(number)} for number in numbers]


def test_a_training_that_begins_anew_is_not_resumed():
    before = [*updates(1, 1, 2), *updates(2, 3, 4)]
    assert not list(training.not_resumed(before, updates(3, 5, 6)))
    for after in (updates(1, 1, 2), updates(3, 6), updates(2, 5)):
        (error,) = training.not_resumed(before, after)
        assert "after update 4 in epoch 2" in error
    (error,) = training.not_resumed(before, [])
    assert "no update was logged" in error


def test_a_cache_with_holes_is_not_filled():
    said = "{}: {} of 80 pairs answered, the others were there"
    assert not list(training.not_filled(f"{said.format('valid', 0)}\n{said.format('train', 0)}"))
    (error,) = training.not_filled(f"{said.format('valid', 0)}\n{said.format('train', 7)}")
    assert error == "cache: train: 7 of 80 pairs answered, the others were there"
    (error,) = training.not_filled(said.format("train", 0))
    assert "nothing of two splits" in error


def test_the_benchmarks_problems_are_the_parts(tmp_path):
    rows = {"": 10.0, "chunked": 6.0, "plain": 8.0, "compiled": 3.0}
    cases = [
        {"criterion": speed.CRITERION if name else "cross_entropy", "variant": name, "step_ms": ms}
        for name, ms in rows.items()
    ]
    problems = [
        {"case": "backward_kl cached", "reason": "RuntimeError: two devices", "failed": True},
        {"case": "backward_kl liger", "reason": "ended: no time", "failed": False},
    ]
    file = tmp_path / "speed-4096" / "wmt17.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"cases": cases, "problems": problems}), encoding="utf-8")
    file.with_suffix(".md").write_text("# Speed\n\n# not this", encoding="utf-8")
    found = speed.findings(file)
    assert found.errors == ["backward_kl cached: RuntimeError: two devices"]
    assert found.summary == (
        "chunked ÷ plain 0.75, compiled ÷ chunked 0.50; backward_kl liger: ended: no time"
    )
    assert found.text == "## speed-4096: Speed\n\n# not this"


# -- processes -------------------------------------------------------------------------------------


def test_a_command_that_fails_tells_its_last_error(job):
    with pytest.raises(PartError, match=r"^step: ValueError: no such thing$"):
        job.run("step", "-c", "print('fine'); raise ValueError('no such thing')")
    log = job.setting.folder / "logs" / "trial-step.log"
    assert log.read_text(encoding="utf-8").startswith("$ ")


FOREVER = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid)
child.wait()
"""


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_whatever_is_not_done_in_time_is_ended_with_all_that_it_started(setting):
    job = Job("trial", setting, time.monotonic() + 5)
    with pytest.raises(PartError, match=r"^step: its time was over$"):
        job.run("step", "-c", FOREVER)
    log = (setting.folder / "logs" / "trial-step.log").read_text(encoding="utf-8")
    child = int(log.splitlines()[-1])
    waiting_until = time.monotonic() + 60
    while is_running(child) and time.monotonic() < waiting_until:
        time.sleep(0.1)
    assert not is_running(child)
    with pytest.raises(PartError, match="its time was over"):
        job.run("another", "-c", "print('never')")


@pytest.mark.slow
def test_an_interruption_ends_what_runs_and_begins_nothing(setting):
    command = [
        *(ROOT / "scripts" / "gpu_check.sh", "--device", "cpu", "--quick"),
        *("--parts", "train-bf16", "--output", setting.folder),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while "to do" not in process.stderr.readline():
            pass
        while not list((setting.folder / "logs").glob("*")):
            time.sleep(0.1)
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    mine = [p.info for p in psutil.process_iter(["cmdline"]) if str(setting.work) in str(p.info)]
    assert not mine
    assert not list((setting.folder / "logs").glob("train-bf16-*"))


def raising(error):
    def work(_):
        raise error

    return work


@pytest.mark.parametrize(
    ("work", "status", "says"),
    [
        (lambda _: Findings("fine"), "ok", "fine"),
        (lambda _: Findings("half", ["not so fine"]), "failed", "not so fine"),
        (raising(PartError("no GPU any more")), "failed", "no GPU any more"),
        (raising(KeyError("loss")), "failed", "KeyError: 'loss'"),
    ],
)
def test_whatever_goes_wrong_is_the_parts_outcome(setting, work, status, says):
    outcome = attempt(Part("x", "X", work, 9), setting, time.monotonic() + 60, {})
    assert outcome.status == status
    assert says in (*outcome.findings.errors, outcome.findings.summary)


def test_a_part_needs_another_and_time(setting):
    fine = Part("x", "X", lambda _: Findings("fine"), 9, needs="prepare")
    failed = Outcome(Part("prepare", "", fine.work, 9), "failed", 1.0, Findings(""))
    after = attempt(fine, setting, math.inf, {"prepare": failed})
    assert after.findings.errors == ["needs prepare, which failed"]
    late = attempt(fine, setting, time.monotonic() - 1, {})
    assert late.findings.errors == ["not begun: the time of the whole check was over"]


def test_a_gpus_parts_have_their_own_time_too(tmp_path):
    on_a_gpu, left = Setting("cuda", False, tmp_path), []
    part = Part("x", "X", lambda job: left.append(job.left) or Findings(""), 9)
    attempt(part, on_a_gpu, time.monotonic() + 60, {})
    attempt(part, on_a_gpu, time.monotonic() + 5, {})
    assert left[1] <= 5 < left[0] <= 9


def test_tests_that_are_all_skipped_are_no_success(job, monkeypatch):
    log = job.setting.folder / "log"
    monkeypatch.setattr(Job, "run", lambda *_: log)
    log.write_text("...\n3 passed, 2 skipped in 1.00s\n", encoding="utf-8")
    assert unit_tests.run(job).data["counts"] == {"passed": 3, "skipped": 2}
    log.write_text("29 skipped, 1160 deselected in 2.83s\n", encoding="utf-8")
    with pytest.raises(PartError, match="no test ran: 29 skipped"):
        unit_tests.run(job)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("device", ["cuda", "cpu"])
def test_names_are_the_parts(device, quick):
    there = [part.name for group in parts.groups_of(device, quick) for part in group]
    assert tuple(there) == names_of(device, quick)


# -- the command line ------------------------------------------------------------------------------


def test_what_is_missing_is_one_line(monkeypatch):
    monkeypatch.setattr(environment, "PACKAGES", ("torch", "no_such_fairseq"))
    with pytest.raises(SystemExit, match=r"^error: Python .* lacks no_such_fairseq: run scripts/"):
        environment.check("cpu")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "cpu"], "error: --device cpu needs --quick"),
        (["--parts", "speed"], "error: no part speed: choose from prepare, tests"),
        (["--limit", "0"], "error: --limit must be 1 or more, not 0"),
    ],
)
def test_a_mistake_is_one_line(arguments, says):
    with pytest.raises(SystemExit, match=says):
        main(arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu_is_one_line(tmp_path):
    with pytest.raises(SystemExit, match="finds no GPU here: the form for a CPU is --device cpu"):
        main(["--output", str(tmp_path / "out")])
    assert not (tmp_path / "out").exists()


def test_the_commit_can_be_named(setting):
    assert report.facts(setting, "a copy of 1234567")["Commit"] == "a copy of 1234567"
    assert report.facts(setting, None)["GPU"].startswith("none")


@pytest.mark.slow
def test_every_part_runs_in_its_small_form(tmp_path):
    result = subprocess.run(
        [
            ROOT / "scripts" / "gpu_check.sh",
            *("--device", "cpu", "--quick", "--limit", "1500", "--output", tmp_path),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    text = (tmp_path / "gpu_check.md").read_text(encoding="utf-8")
    assert result.stdout.strip() == text.strip() and "[5/5] speed" in result.stderr
    content = json.loads((tmp_path / "gpu_check.json").read_text(encoding="utf-8"))
    assert {"GPU", "Versions", "Commit"} <= set(content["about"])
    found = {part["name"]: part for part in content["parts"]}
    assert set(found) == set(names_of("cpu", quick=True))
    assert found["tests"]["data"]["counts"]["passed"] > 5
    for name, part in found.items():
        assert part["status"] == "ok" and not part["errors"]
        if name.startswith("train-"):
            assert len(part["data"]["rows"]) == 18
    variants = {row["variant"] for row in found["speed"]["data"]["cases"]}
    compiled = {"compiled"} if hasattr(torch, "compile") else set()
    assert variants == {"", "projection", "chunked"} | compiled
    assert not (tmp_path / "work").exists()
