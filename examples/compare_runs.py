"""Compare runs in one table, by calling the functions behind the analysis commands.

python examples/compare_runs.py data-bin learner.pt KD=runs/kd KA=runs/ka
"""

from __future__ import annotations

import sys
from pathlib import Path

from ka_fairseq.analysis.entropy import entropy
from ka_fairseq.analysis.forced import Corpus
from ka_fairseq.analysis.novel_tokens import novel_tokens
from ka_fairseq.analysis.runs import find_run, parse_named_paths


def main(data: str, learner: str, *named: str) -> None:
    """Print entropy and novel tokens side by side."""
    start = Path(learner)
    runs = [find_run(name, path, start) for name, path in parse_named_paths(named).items()]
    uncertainty = entropy(Corpus.open(Path(data), "valid", like=start), runs)
    novelty = novel_tokens(Corpus.open(Path(data), "train", like=start), runs, sentences=200)
    print(uncertainty.merge(novelty, on=["run", "epoch"]).to_string(index=False))


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit("usage: compare_runs.py DATA LEARNER NAME=FOLDER [NAME=FOLDER …]")
    main(*sys.argv[1:])
