"""Checkpoints go from one fairseq to the other: 0.12.2 with torch 1.13, and today's.

Needs two environments: this one, and one of another fairseq, which ``scripts/setup.sh dev`` made in
``.venv`` or ``.venv-3.10``, or whose interpreter ``KA_OTHER_PYTHON`` names.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT, USER_DIR, run, train

pytestmark = [pytest.mark.slow, pytest.mark.extended]

PLAIN = ("--task", "translation", "--criterion", "label_smoothed_cross_entropy")
# With this package, so that an environment which was made for an earlier state of it is no choice.
VERSIONS = "import ka_fairseq, fairseq, numpy; print(fairseq.__version__, numpy.__version__[0])"


def versions(python):
    command = [python, "-c", VERSIONS]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return found.stdout.strip()


@pytest.fixture(scope="module")
def other_python():
    named = os.environ.get("KA_OTHER_PYTHON")
    candidates = [named] if named else sorted(map(str, ROOT.glob(".venv*/bin/python")))
    here = versions(sys.executable)
    for python in candidates:
        if versions(python) not in ("", here):
            return python
    if named:
        pytest.fail(f"KA_OTHER_PYTHON={named} has no fairseq, or the one that is here")
    pytest.skip("no environment of another fairseq: PYTHON=python3.10 scripts/setup.sh dev")


@pytest.fixture(scope="module", params=["from here", "to here"])
def writer_and_reader(request, other_python):
    pair = (sys.executable, other_python)
    return pair if request.param == "from here" else pair[::-1]


@pytest.fixture(scope="module")
def written(writer_and_reader, binarized, tmp_path_factory):
    """A model of plain fairseq, and one of this package that it taught, cut off after 8 updates."""
    writer, _ = writer_and_reader
    plain = tmp_path_factory.mktemp("plain")
    run(
        "fairseq-train",
        binarized,
        *("--save-dir", plain, "--cpu", "--seed", 1, "--arch", "transformer_tiny", *PLAIN),
        *("--optimizer", "adam", "--lr", 2e-3, "--max-tokens", 1000, "--max-update", 30),
        python=writer,
    )
    taught = tmp_path_factory.mktemp("taught")
    train(binarized, taught, *teach(plain), "--max-update", 8, python=writer)
    return plain / "checkpoint_last.pt", taught / "checkpoint_last.pt"


def teach(teacher: Path):
    return (
        *("--task", "translation_with_teacher", "--criterion", "backward_kl"),
        *("--teacher-path", teacher / "checkpoint_last.pt"),
    )


def translations(python, data, checkpoint):
    printed = run(
        "fairseq-generate",
        data,
        *("--user-dir", USER_DIR, "--path", checkpoint, "--cpu", "--gen-subset", "valid"),
        *("--beam", 2, "--max-len-b", 5),
        python=python,
    )
    return re.findall(r"^H-(\d+)\t\S+\t(.*)$", printed.stdout, re.M)


def losses(printed):
    found = re.findall(r'"valid_loss": "([\d.]+)"', printed.stdout + printed.stderr)
    return [float(loss) for loss in found]


@pytest.mark.parametrize("kind", [0, 1], ids=["plain", "taught"])
def test_translations_are_the_same(writer_and_reader, written, binarized, kind):
    here, there = (translations(python, binarized, written[kind]) for python in writer_and_reader)
    assert len(here) == 80 and sorted(here) == sorted(there)


def test_a_taught_learner_is_continued(writer_and_reader, written, binarized, tmp_path):
    """With its optimizer, schedule and place in the data, beside the teacher of the other one."""
    plain, taught = written
    continued = [
        train(
            binarized,
            tmp_path / str(number),
            *(*teach(plain.parent), "--max-update", 20, "--restore-file", taught),
            python=python,
        )
        for number, python in enumerate(writer_and_reader)
    ]
    there, here = map(losses, continued)
    assert there and here == pytest.approx(there, abs=5e-3)  # log 2 per token; logged to 3 digits
    assert all('"num_updates": "20"' in run.stdout + run.stderr for run in continued)


def test_a_plain_model_is_fine_tuned(writer_and_reader, written, binarized, tmp_path):
    plain, _ = written
    # Adam's first steps are as large for a gradient that is a rounding error as for any other: a
    # larger epsilon keeps what two releases round differently as small as it is.
    learner = ("--finetune-from-model", plain, "--max-update", 5, "--adam-eps", 1e-3)
    tuned = [
        train(binarized, tmp_path / str(number), *teach(plain.parent), *learner, python=python)
        for number, python in enumerate(writer_and_reader)
    ]
    there, here = map(losses, tuned)
    assert there and here == pytest.approx(there, abs=5e-3)
