#!/usr/bin/env bash
# Runs stages of the pipeline: scripts/pipeline.sh --help
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("$root/scripts/venv.sh")/bin/python
[[ -x $python ]] || python=${PYTHON:-python3}
PYTHONPATH=$root/scripts:$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m pipeline "$@"
