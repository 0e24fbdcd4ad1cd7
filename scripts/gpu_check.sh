#!/usr/bin/env bash
# Checks all of it on a GPU, in at most 8 minutes: scripts/gpu_check.sh --help
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("$root/scripts/venv.sh")/bin/python
[[ -x $python ]] || python=${PYTHON:-python3}
PYTHONPATH=$root/scripts:$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m gpu_check "$@"
