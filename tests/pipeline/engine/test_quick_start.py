"""What runs by quick_start.py is what runs by -m, but for what it puts off."""

import json
import subprocess
import sys

from pipeline.engine import commands

SHOWN = """
import gc, json, logging, sys
logging.basicConfig(format="%(message)s as this command has it")
import fairseq
before = sorted(name for name in ("sklearn", "scipy.stats") if name in sys.modules)
from fairseq.criterions import sentence_prediction
score = sentence_prediction.f1_score([0, 1, 1], [0, 1, 0])
from sklearn.metrics import f1_score
print(json.dumps({
    "argv": sys.argv[1:], "name": __name__, "path": sys.path[0], "spec": __spec__.name,
    "logging": logging.getLogger().handlers[0].formatter._fmt,
    "collects": gc.isenabled(), "before": before,
    "score": score, "own": f1_score([0, 1, 1], [0, 1, 0]),
}))
"""


def shown(tmp_path, start, program):
    (tmp_path / "shown.py").write_text(program, encoding="utf-8")
    command = (
        [*start, "shown", "--an", "option"] if start[-1] == "-m" else [*start, "--an", "option"]
    )
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


def test_all_but_scikit_learn_is_there(tmp_path):
    quick = shown(tmp_path, commands.fairseq_module("shown"), SHOWN)
    usual = shown(tmp_path, [sys.executable, "-m"], SHOWN)
    assert (quick.pop("before"), usual.pop("before")) == ([], ["scipy.stats", "sklearn"])
    assert quick == usual
    assert quick["logging"] == "%(message)s as this command has it"
    assert quick["argv"] == ["--an", "option"] and quick["name"] == "__main__"
    assert quick["path"] == str(tmp_path) and quick["spec"] == "shown"


def test_a_module_that_is_missing_is_told(tmp_path):
    command = commands.fairseq_module("fairseq_cli.nothing")
    found = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert found.returncode and found.stderr.rstrip().endswith(
        "No module named fairseq_cli.nothing"
    )
