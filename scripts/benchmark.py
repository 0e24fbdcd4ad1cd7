#!/usr/bin/env python3
"""How fast the criterions are beside what a step must cost at least: scripts/benchmark.py --help"""

import sys

from benchmark.__main__ import main  # the folder beside this file

if __name__ == "__main__":
    sys.exit(main())
