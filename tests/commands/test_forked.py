"""What scripts find on the search path of the tests is the command (tests/forking.py)."""

import os
import subprocess

import pytest

from tests.support import USER_DIR, quick_path

pytestmark = pytest.mark.slow


@pytest.fixture
def forked(tmp_path):
    """Runs a command in an empty folder."""

    def forked(*words):
        env = {**os.environ, "PATH": quick_path()}
        return subprocess.run(
            words, cwd=tmp_path, env=env, capture_output=True, text=True, check=False
        )

    return forked


def test_what_it_prints_and_how_it_ends(forked):
    printed = forked("python", "-m", "ka_fairseq")
    assert (printed.returncode, printed.stdout) == (0, f"{USER_DIR}\n")
    refused = forked("python", "-m", "ka_fairseq", "train")
    assert refused.returncode == 2 and not refused.stdout
    assert refused.stderr.endswith("error: unrecognized arguments: train\n")


def test_it_runs_where_it_is_started(forked, tmp_path):
    for language in ("de", "en"):
        (tmp_path / f"train.{language}").write_text("eins\n", encoding="utf-8")
    done = forked(
        *("fairseq-preprocess", "-s", "de", "-t", "en", "--trainpref", "train"),
        *("--destdir", "bin"),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "bin" / "train.de-en.en.bin").is_file()


def test_other_programs_are_pythons_own(forked):
    assert forked("python", "-c", "import sys; print(sys.flags.isolated)").stdout == "0\n"
