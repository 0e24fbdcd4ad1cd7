"""What runs by quick_start.py is what runs by -m, but for what fairseq imports for sounds."""

import json
import subprocess
import sys

import pytest
from fairseq.criterions import sentence_prediction
from pipeline import commands

SHOWN = """
import json, logging, sys
logging.basicConfig(format="%(message)s as this command has it")
import fairseq
before = sorted(name for name in ("sklearn", "scipy.stats") if name in sys.modules)
from fairseq.criterions import sentence_prediction
put_off = getattr(sentence_prediction, "f1_score", None)
score = put_off and put_off([0, 1, 1], [0, 1, 0])
from sklearn.metrics import f1_score
print(json.dumps({
    "argv": sys.argv[1:], "name": __name__, "path": sys.path[0], "spec": __spec__.name,
    "logging": logging.getLogger().handlers[0].formatter._fmt,
    "before": before, "score": score, "own": f1_score([0, 1, 1], [0, 1, 0]),
}))
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "shown.py").write_text(SHOWN, encoding="utf-8")
    return tmp_path


def shown(folder, start):
    command = (
        [*start, "shown", "--an", "option"] if start[-1] == "-m" else [*start, "--an", "option"]
    )
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_all_but_scikit_learn_is_there(folder):
    quick = shown(folder, commands.fairseq_module("shown"))
    usual = shown(folder, [sys.executable, "-m"])
    imports = hasattr(sentence_prediction, "f1_score")  # not in fairseq 0.12.2
    assert (quick.pop("before"), usual.pop("before")) == ([], ["scipy.stats", "sklearn"] * imports)
    assert quick == usual
    assert quick["logging"] == "%(message)s as this command has it"
    assert quick["argv"] == ["--an", "option"] and quick["name"] == "__main__"
    assert quick["path"] == str(folder) and quick["spec"] == "shown"


def test_a_module_that_is_missing_is_told(tmp_path):
    command = commands.fairseq_module("fairseq_cli.nothing")
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode and found.stderr.rstrip().endswith(
        "No module named fairseq_cli.nothing"
    )
