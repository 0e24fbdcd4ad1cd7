"""What docs/install.md says of ``pip install ka-fairseq`` without extras."""

import subprocess
import sys

EXTRAS = ("matplotlib", "pandas", "sacremoses", "sentencepiece", "subword_nmt", "psutil")
SCRIPT = f"""
import sys; sys.modules.update(dict.fromkeys({EXTRAS!r}))
import ka_fairseq, ka_fairseq.export, ka_fairseq.cache; print("imported")
import ka_fairseq.analysis
"""


def test_the_plugin_alone_needs_little_and_the_analysis_says_what_more():
    alone = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False
    )
    assert alone.stdout == "imported\n" and alone.returncode == 1
    (line,) = [line for line in alone.stderr.splitlines() if line.startswith("error")]
    assert line.startswith("error: the analysis needs matplotlib: pip install 'ka-fairseq[analys")
