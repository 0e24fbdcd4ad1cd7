#!/usr/bin/env python3
"""Probe this package on a GPU, in four minutes and one process: scripts/gpu_probe.py --help"""

import sys

from gpu_probe.__main__ import main  # the folder beside this file

if __name__ == "__main__":
    sys.exit(main())
