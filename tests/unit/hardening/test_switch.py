"""Patches that change what fairseq does are named in the log, and can be left out."""

import logging
import os
import subprocess
import sys

import pytest

from ka_fairseq import hardening
from ka_fairseq.errors import UserError

PATCHED = """
import ka_fairseq
from fairseq import checkpoint_utils
print([
    hasattr(checkpoint_utils.load_checkpoint_to_cpu, "explains_errors"),
    hasattr(checkpoint_utils.torch_persistent_save, "writes_whole"),
    hasattr(checkpoint_utils.load_checkpoint, "resumes_exactly"),
])
"""


@pytest.mark.parametrize(
    ("off", "left"),
    [
        ("writing, resuming", [True, False, False]),
        pytest.param("", [True, True, True], marks=pytest.mark.extended),
        pytest.param("all", [False] * 3, marks=pytest.mark.extended),
    ],
)
def test_what_is_switched_off_is_left_as_it_was(off, left):
    result = subprocess.run(
        [sys.executable, "-c", PATCHED],
        env={**os.environ, hardening.SWITCH: off},
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() == str(left)


def test_the_log_names_them_in_one_line(caplog):
    with caplog.at_level(logging.INFO, "ka_fairseq.hardening"):
        hardening.harden("writing")
        hardening.harden("all")
    (record,) = caplog.records
    assert "reading (damaged, foreign" in record.message and "resuming (" in record.message
    assert "writing (" not in record.message and hardening.SWITCH in record.message


def test_an_unknown_name():
    with pytest.raises(UserError, match="KA_FAIRSEQ_HARDENING_OFF=write: choose from reading, wri"):
        hardening.harden("write")
