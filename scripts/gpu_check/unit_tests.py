"""Part ``tests``: the tests that need a GPU."""

from __future__ import annotations

import re

from gpu_check import environment
from gpu_check.part import Findings, Job, PartError

_COUNT = re.compile(r"(\d+) (passed|failed|errors?|skipped)\b")


def run(job: Job) -> Findings:
    """Run pytest; on a CPU, what of the tests of the matrix products needs no GPU.

    Raises:
        PartError: a test failed, or none ran.
    """
    if lacking := environment.missing(environment.FOR_TESTS):
        raise PartError(f"this Python lacks {', '.join(lacking)}: run scripts/setup.sh dev")
    everything = ("-m", "gpu", "tests")
    chosen = everything if job.setting.device == "cuda" else ("tests/unit/loss/test_matmul.py",)
    log = job.run("pytest", "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *chosen)
    last = log.read_text(encoding="utf-8").splitlines()[-1]
    counts = {what: int(number) for number, what in _COUNT.findall(last)}
    if not counts.get("passed"):
        raise PartError(f"no test ran: {last}")
    return Findings(last.strip("= "), data={"counts": counts})
