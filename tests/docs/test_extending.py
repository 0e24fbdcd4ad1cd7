"""What docs/extending.md shows, through the command lines."""

import subprocess
import sys

import pytest

from tests.support import records, train

DIVERGENCE = '''\
"""A --user-dir of one's own."""

import ka_fairseq


@ka_fairseq.register_divergence("hellinger")
def hellinger(learner_lprobs, teacher_lprobs):
    return 0.5 * ((learner_lprobs / 2).exp() - (teacher_lprobs / 2).exp()).pow(2).sum(-1)
'''


@pytest.mark.slow
def test_a_divergence_of_ones_own_trains(binarized, teacher_file, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "__init__.py").write_text(DIVERGENCE, encoding="utf-8")
    result = train(
        binarized,
        tmp_path / "out",
        *("--user-dir", folder, "--task", "translation_with_teacher"),
        *("--teacher-path", teacher_file, "--transfer-weight", 1),
        *("--criterion", "transfer", "--divergence", "hellinger", "--max-update", 20),
    )
    losses = [float(record["transfer_loss"]) for record in records(result, "train_inner")]
    # Hellinger's square lies between 0 and 1: in bits, below 1.45; and it is minimised.
    assert 1.45 > losses[0] > losses[-1] > 0


def test_the_plugin_alone_needs_little_and_the_analysis_says_what_more():
    """As after ``pip install ka-fairseq`` without extras."""
    hidden = ("matplotlib", "pandas", "sacremoses", "sentencepiece", "subword_nmt", "psutil")
    hide = f"import sys; sys.modules.update(dict.fromkeys({hidden!r}));"
    whole = subprocess.run(
        [sys.executable, "-c", f"{hide} import ka_fairseq, ka_fairseq.export, ka_fairseq.cache"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert whole.returncode == 0, whole.stderr
    analysis = subprocess.run(
        [sys.executable, "-c", f"{hide} import ka_fairseq.analysis"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert analysis.returncode == 1
    (line,) = [line for line in analysis.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: the analysis needs matplotlib: pip install 'ka-fairseq[analys")
