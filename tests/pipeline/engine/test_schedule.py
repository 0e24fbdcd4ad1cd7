"""Stages side by side."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from pipeline.engine import commands, schedule, state
from pipeline.engine.devices import Slot
from pipeline.engine.errors import PipelineError
from pipeline.engine.stage import Stage
from pipeline.models import settings

TWO = [Slot((), 1), Slot((), 1)]
LONGEST = 60.0  # a test that hangs would hang for ever
# Two stages whose commands start a command each, say their process ids, and wait.
INTERRUPTED = """
import pathlib, sys
from pipeline import cli
from pipeline.engine import commands, schedule
from pipeline.models import settings
from pipeline.engine.devices import Slot
from pipeline.engine.stage import Stage
pair = settings.load(settings.CONFIGS / "demo", pathlib.Path(sys.argv[1]))
child = (
    "import os, subprocess, sys, time;"
    "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
    "print(os.getpid(), child.pid, flush=True); time.sleep(600)"
)
def stage(name):
    def run(slot):
        command = [sys.executable, "-c", child]
        commands.run(command, pair.files.log(name), lambda line: print(line, flush=True))
    return Stage(name, run, lambda slot: {})
def run():
    schedule.run(pair.files, [stage(name) for name in ("one", "two", "three")], [Slot(), Slot()])
sys.exit(cli.run(run))
"""


class Work:
    """Stages that note when they run."""

    def __init__(self):
        self.events = []

    def stage(self, name, needs=(), after=(), fails=False, action=lambda slot: None, alone=False):
        def run(slot):
            self.events.append(f"begin {name}")
            action(slot)
            if fails:
                raise PipelineError("out of memory")
            self.events.append(f"end {name}")
            return {}

        return Stage(name, run, lambda slot: {}, needs=needs, after=after, alone=alone)

    @property
    def begun(self):
        return [event.removeprefix("begin ") for event in self.events if event.startswith("begin")]


@pytest.fixture
def work():
    return Work()


def test_one_at_a_time_they_come_in_their_order(pair, work):
    stages = [work.stage("a"), work.stage("b", ["a"]), work.stage("c"), work.stage("d", ["b"])]
    schedule.run(pair.files, stages, [Slot()])
    assert work.events == [f"{event} {name}" for name in "abcd" for event in ("begin", "end")]


def test_what_does_not_need_each_other_runs_at_the_same_time(pair, work):
    """Each waits for the other: one after the other, they would never meet."""
    meet = threading.Barrier(2, timeout=LONGEST)
    stages = [work.stage(name, action=lambda slot: meet.wait()) for name in ("teacher", "learner")]
    schedule.run(pair.files, [*stages, work.stage("kd", ["teacher", "learner"])], TWO)
    assert work.begun[2] == "kd"
    assert all(state.is_done(pair.files.run_dir, name) for name in ("teacher", "learner", "kd"))


def test_no_more_at_a_time_than_there_are_slots(pair, work):
    slots, held, most = [Slot((), n) for n in (1, 2)], [], []

    def hold(slot):
        held.append(slot)
        most.append(list(held))
        time.sleep(0.02)
        held.remove(slot)

    schedule.run(pair.files, [work.stage(f"s{n}", action=hold) for n in range(9)], slots)
    assert len(most) == 9
    assert max(map(len, most)) == 2
    assert all(len(set(together)) == len(together) for together in most)


def test_what_runs_alone_waits_for_all_that_can_run(pair, work):
    stages = [
        work.stage("learner"),
        work.stage("speed", after=["learner"], alone=True),
        work.stage("latency", alone=True),
        work.stage("report", after=["speed"]),
        work.stage("seeds/2/learner", ["learner"], action=lambda slot: time.sleep(0.05)),
        work.stage("seeds/2/kd", ["seeds/2/learner"]),
    ]
    schedule.run(pair.files, stages, TWO)
    alone = [event for name in ("speed", "latency") for event in (f"begin {name}", f"end {name}")]
    assert work.events[-6:] == [*alone[:2], "begin report", "end report", *alone[2:]]


def test_a_failure_stops_what_needs_it_and_nothing_else(pair, work, capsys):
    stages = [
        work.stage("teacher", fails=True),
        work.stage("learner"),
        work.stage("control", ["learner"]),
        work.stage("kd", ["teacher", "learner"]),
        work.stage("evaluate.control", ["control"]),
        work.stage("evaluate.kd", ["kd"]),
        work.stage("report", after=["evaluate.kd", "evaluate.control"]),
    ]
    with pytest.raises(PipelineError) as error:
        schedule.run(pair.files, stages, TWO)
    assert str(error.value) == "stage teacher failed: out of memory"
    assert set(work.begun) == {"teacher", "learner", "control", "evaluate.control"}
    assert not state.is_done(pair.files.run_dir, "teacher")
    assert all(
        state.is_done(pair.files.run_dir, n) for n in ("learner", "control", "evaluate.control")
    )
    assert "not started: kd, evaluate.kd, report" in capsys.readouterr().err.splitlines()


def test_all_failures_are_named(pair, work):
    stages = [work.stage(name, fails=name != "ka") for name in ("kd", "ka", "topk")]
    with pytest.raises(PipelineError) as error:
        schedule.run(pair.files, stages, TWO)
    failures = sorted(str(error.value).split("; "))
    assert failures == [f"stage {name} failed: out of memory" for name in ("kd", "topk")]


def test_force_redoes_the_named_stages_and_no_others(pair, work):
    stages = [work.stage("teacher"), work.stage("kd", ["teacher"])]
    schedule.run(pair.files, stages, [Slot()], force=["kd"])
    schedule.run(pair.files, stages, [Slot()], force=["kd"])
    assert work.begun == ["teacher", "kd", "kd"]


def test_a_mistake_in_a_stage_is_no_failure_of_it(pair, work):
    def mistake(pair):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        schedule.run(pair.files, [work.stage("a", action=mistake), work.stage("b")], TWO[:1])


def test_each_is_kept_to_its_gpu_or_its_threads(pair, work):
    names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
    code = f"import os; print([os.environ.get(name) for name in {names}])"

    def look(slot):
        command = [sys.executable, "-c", code]
        commands.run(command, pair.files.log("seen"), seen.append, append=True, slot=slot)

    for slots, expected in {
        (Slot(("3",), 4), Slot(("GPU-5",), 4)): ["['3', '4']", "['GPU-5', '4']"],
        (Slot(("0", "1"), 8),): ["['0,1', '8']"] * 2,
        (Slot((), 1),): ["[None, '1']"] * 2,
    }.items():
        seen = []
        meet = threading.Barrier(len(slots), timeout=LONGEST)

        def both(slot, meet=meet):
            meet.wait()
            look(slot)

        schedule.run(pair.files, [work.stage(n, action=both) for n in "ab"], slots, force="ab")
        assert sorted(seen) == expected


def test_an_interruption_ends_all_that_was_started(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": f"{settings.REPOSITORY / 'scripts'}:{settings.REPOSITORY}"},
        # What runs these tests in the background may have it ignored, and children inherit that.
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    started = [int(word) for _ in range(2) for word in process.stdout.readline().split()]
    assert len(started) == 4 and all(psutil.pid_exists(child) for child in started)
    process.send_signal(signal.SIGINT)  # to it alone, not to all as a terminal's Ctrl-C
    output, error = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert error.endswith("interrupted: run the same command again to go on from here\n")
    assert "Traceback" not in error and not output
    end = time.monotonic() + LONGEST
    while any(map(_alive, started)) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(map(_alive, started))


def _alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
