"""Solve the four-class task of Fig. 3 from your own starting point, in one second.

python examples/toy_task.py .33 .20 .30 .17
"""

from __future__ import annotations

import sys

from ka_fairseq.analysis.toy import START, toy


def main(*start: str) -> None:
    """Print where forward and backward KL end, in each top-k form."""
    frame = toy([float(value) for value in start] or START, epochs=400)
    print(frame.groupby(["form", "order"], sort=False).tail(1).round(3).to_string(index=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
