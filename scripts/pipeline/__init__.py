"""The stages from raw text to a table of scores; run as ``scripts/pipeline.sh``."""

import sys

if sys.version_info < (3, 11):
    raise SystemExit(
        "error: the scripts need Python 3.11 or 3.12: set PYTHON to one. With Python 3.10 the "
        "plugin alone runs (docs/install.md)"
    )
