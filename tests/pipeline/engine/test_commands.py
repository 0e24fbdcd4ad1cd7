"""What commands are given beside their command lines: variables, and a time limit."""

import pytest
from pipeline.engine import commands
from pipeline.engine.errors import PipelineError


@pytest.mark.parametrize(("threads", "policy"), [(1, "PASSIVE"), (2, "ACTIVE"), (None, "ACTIVE")])
def test_only_several_threads_may_spin(monkeypatch, threads, policy):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(commands, "wait_policy", lambda: "ACTIVE")
    assert commands.threads_and_memory(threads)["OMP_WAIT_POLICY"] == policy


def test_a_command_is_ended_at_its_time_limit(tmp_path):
    words = [*commands.python_module("timeit"), "-n", "1", "import time; time.sleep(60)"]
    with pytest.raises(PipelineError, match="ended: the time limit was reached"):
        commands.run(words, tmp_path / "log", seconds=0.5)
    commands.run(commands.python_module("this"), tmp_path / "log", seconds=60)
