"""scripts/gpu_probe.py: a failure hides no other figure, time is kept, all runs on a CPU."""

import json
import subprocess
import sys

import pytest
import torch
from gpu_probe.__main__ import PARTS, main
from gpu_probe.loss import Rows
from gpu_probe.record import OutOfTime, Record

from ka_fairseq.errors import UserError
from tests.support import ROOT

pytestmark = pytest.mark.extended

ON_A_CPU = ("--device", "cpu", "--quick", "--output")


@pytest.fixture
def record(tmp_path):
    return Record(tmp_path / "lines.jsonl", torch.device("cpu"), quick=True, seconds=1000)


def fail():
    raise RuntimeError("no such kernel\nand more")


def test_a_figure_that_fails_says_why_and_hides_no_other(record):
    assert record.figure("loss", "one", lambda x: {"ms": x}, 7) == {"ms": 7}
    assert record.figure("loss", "two", fail) is None
    assert record.figure("loss", "three", lambda: "fine") == "fine"
    lines = [json.loads(line) for line in record.file.read_text("utf-8").splitlines()]
    assert lines == record.lines
    assert [line.get("value") for line in lines] == [{"ms": 7}, None, "fine"]
    (failed,) = record.failed
    assert failed["error"] == "RuntimeError: no such kernel" and "in fail" in failed["where"]
    table = record.table()
    assert "ms 7" in table and "**RuntimeError: no such kernel**" in table and "fine" in table


def test_nothing_is_begun_when_the_time_is_over(record):
    record.seconds = 0
    with pytest.raises(OutOfTime, match="loss: one"):
        record.figure("loss", "one", pytest.fail)
    assert not record.lines


def test_a_loss_that_is_off_is_a_failure(record, monkeypatch):
    """The comparison with float64 has teeth."""
    from gpu_probe import loss

    monkeypatch.setattr(loss, "divergence_names", lambda: ["backward_kl"])
    loss.closeness(record)
    assert len(record.lines) == 3 and not record.failed
    original = Rows.loss
    monkeypatch.setattr(
        Rows,
        "loss",
        lambda rows, name, kernel: original(
            rows, "forward_kl" if kernel == "eager" else name, kernel
        ),
    )
    loss.closeness(record)
    assert len(record.failed) == 3


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--device", "cpu"], "--device cpu needs --quick"),
        (["--seconds", "0"], "--seconds must be 1 or more, not 0"),
        (["--parts", "speed"], "invalid choice: 'speed'"),
    ],
)
def test_a_mistake_is_one_line(arguments, says):
    with pytest.raises(UserError, match=says):
        main(arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_no_gpu_is_one_line():
    with pytest.raises(UserError, match="finds no GPU here: use --device cpu --q"):
        main([])


def test_all_of_it_runs_on_a_cpu(tmp_path):
    """As CI runs it: every part has figures, none fails, and the table is there."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "gpu_probe.py"), *ON_A_CPU, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    lines = [json.loads(line) for line in (tmp_path / "gpu_probe.jsonl").open(encoding="utf-8")]
    parts = [line["part"].split(",")[0] for line in lines]
    assert list(dict.fromkeys(parts)) == [
        *("environment", "loss alone", "beside float64", "a step", "training", "tests")
    ]
    assert len(set(parts)) == len(PARTS)
    training = [line for line in lines if line["part"] == "training"]
    assert set(training[-1]["value"]) == {"filled", "read"}
    assert "backward_kl, cached" in (tmp_path / "gpu_probe.md").read_text("utf-8")
