"""``--user-dir "$(python -m ka_fairseq)"``, from a folder where nothing of this package lies."""

import os
import subprocess
import sys

import pytest

from tests.support import ROOT, USER_DIR, command_line

pytestmark = pytest.mark.slow


@pytest.fixture
def elsewhere(tmp_path):
    """Runs a command in another folder; the package is importable, and not beside fairseq."""

    def elsewhere(*command):
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )

    return elsewhere


def test_the_folder_is_found_from_anywhere(elsewhere):
    printed = elsewhere(sys.executable, "-m", "ka_fairseq")
    assert printed.returncode == 0 and printed.stdout == f"{USER_DIR}\n"
    user_dir = printed.stdout.strip()
    arguments = ("--task", "translation_with_teacher", "--criterion", "backward_kl", "--help")
    told = elsewhere(*command_line("fairseq-train", "--user-dir", user_dir, *arguments))
    assert told.returncode == 0, told.stderr
    assert "forward_kl,backward_kl" in told.stdout  # among the criterions to choose from


def test_it_takes_nothing(elsewhere):
    refused = elsewhere(sys.executable, "-m", "ka_fairseq", "train")
    assert refused.returncode == 2 and not refused.stdout
    assert refused.stderr.endswith("error: unrecognized arguments: train\n")
