"""fairseq's own tests pass with this package loaded, where they pass without it.

pip does not bring them: ``KA_FAIRSEQ_TESTS`` names the folder ``tests`` of a checkout of fairseq.
"""

import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.extended]

FILES = (
    *("test_train.py", "test_checkpoint_utils.py", "test_label_smoothing.py", "test_ema.py"),
    *("test_checkpoint_utils_for_task_level_attributes.py", "test_sequence_generator.py"),
    *("test_sequence_scorer.py", "test_fp16_optimizer.py", "test_memory_efficient_fp16.py"),
    *("test_amp_optimizer.py", "test_iterators.py", "test_metrics.py", "test_reproducibility.py"),
    *("test_token_block_dataset.py", "test_dataset.py", "test_valid_subset_checks.py"),
)


@pytest.fixture
def passed(tmp_path):
    """Runs fairseq's tests; arguments for pytest → the names of those that pass."""
    folder = os.environ.get("KA_FAIRSEQ_TESTS")
    if not folder:
        pytest.skip("KA_FAIRSEQ_TESTS does not name the folder of fairseq's tests")
    tests = Path(folder).resolve()

    def passed(*arguments):
        report = tmp_path / "report.xml"
        options = ("-q", "-p", "no:cacheprovider", f"--junitxml={report}", *arguments)
        subprocess.run(
            [sys.executable, "-m", "pytest", *options, *(str(tests / file) for file in FILES)],
            cwd=tests.parent,
            # fairseq's first, as both have a package `tests`.
            env=os.environ | {"PYTHONPATH": os.pathsep.join((str(tests.parent), str(ROOT)))},
            check=False,
        )
        cases = ElementTree.parse(report).iter("testcase")
        return {f"{case.get('classname')}.{case.get('name')}" for case in cases if not len(case)}

    return passed


def test_they_pass_with_this_package_too(passed):
    without = passed()
    assert len(without) > 50
    assert not without - passed("-p", "ka_fairseq")
