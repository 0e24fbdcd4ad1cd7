"""What commands are given beside their command lines."""

import pytest
from pipeline.engine import commands


@pytest.mark.parametrize(("threads", "policy"), [(1, "PASSIVE"), (2, "ACTIVE"), (None, "ACTIVE")])
def test_only_several_threads_may_spin(monkeypatch, threads, policy):
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    monkeypatch.setattr(commands, "wait_policy", lambda: "ACTIVE")
    assert commands.threads_and_memory(threads)["OMP_WAIT_POLICY"] == policy
