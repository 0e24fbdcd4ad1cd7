#!/usr/bin/env python3
"""Measure time and memory of the criterions: scripts/benchmark.py --help"""

import sys

from benchmark.__main__ import main  # the folder beside this file

if __name__ == "__main__":
    sys.exit(main())
