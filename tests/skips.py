"""A test that CI skips for a reason that is not in this list fails the run.

A skip hides that a test is broken, or that what it needs is no longer set up. This plugin of
pytest's is at work where the environment has ``CI=true``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from importlib.metadata import version

import pytest

ALLOWED = {
    r"needs a GPU": "CI has none",
    r"there (is|may be) a GPU( here)?": "shown on a machine without one",
    r"there is no Chromium here": ".ci/run installs it where it may, and says where it could not",
    r"needs (trl|liger-kernel)|\w[\w.-]* is not installed": "a peer, for comparisons alone",
    r"no environment of another fairseq: .*": "two environments, which a developer may not have",
    r"KA_FAIRSEQ_TESTS does not name .*": "pip brings no tests of fairseq's",
    r"no SLURM here .*": "scripts/slurm_check.sh; Debian's packages, which a machine may lack",
    r"no disk can be mounted here: .*": "a mount needs rights that a container may lack",
}
"""The reasons, as regular expressions, and why each may be."""

WITH_TORCH_1 = {
    r"torch \S+ has no float16 on this device: .*": "torch 1.13 has no float16 on a CPU",
    r"torch 1 has no compiler": "torch.compile came with torch 2",
    r"could not import 'triton': .*": "the row kernel needs torch 2",
    r"this torch has no backends in Python": "the pretended GPU needs torch 2",
    r"could not import 'torch.utils.backend_registration': .*": "likewise",
}
"""What may be skipped with Python 3.10 and torch 1.13 besides."""


def unexpected(reasons: Sequence[str], torch_version: str) -> list[str]:
    """Return the reasons that no pattern allows."""
    patterns = [*ALLOWED, *(WITH_TORCH_1 if torch_version.startswith("1.") else ())]
    return [
        reason
        for reason in reasons
        if not any(re.fullmatch(pattern, reason, re.S) for pattern in patterns)
    ]


def pytest_configure(config: pytest.Config) -> None:
    """Watch the run, in the process that hears of all tests."""
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Watch())


class Watch:
    """Collects the skips of a run, and judges them at its end."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at a test."""
        self._look(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a file, which may be skipped as a whole."""
        self._look(report)

    def _look(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if unexpected([reason], version("torch")):
            self.refused.append(f"{report.nodeid}: {reason}")

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Let the run fail."""
        if self.refused and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which, a line each."""
        for line in self.refused:
            terminalreporter.write_line(
                f"error: skipped for a reason that tests/skips.py does not allow: {line}", red=True
            )
