#!/usr/bin/env bash
# Prints the path of the Python that the scripts run. This is the Python of .venv (scripts/venv.sh).
# Without .venv it is PYTHON or python3, if this Python has the packages. If not, the script first runs setup.sh.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

venv=$("$scripts/venv.sh")
python=$venv/bin/python
if [[ -f $venv/installed && -x $python ]]; then
    echo "$python"
    exit
fi
[[ -x $python ]] || python=${PYTHON:-python3}
has_all="import sys; from importlib.util import find_spec as f; sys.exit(not all(map(f, sys.argv[1:])))"
if ! "$python" -c "$has_all" fairseq yaml ctranslate2 sentencepiece pandas scipy 2>/dev/null; then
    "$scripts/setup.sh" >&2
    python=$venv/bin/python
fi
echo "$python"
