#!/usr/bin/env bash
# Pools comparisons on several texts: scripts/pool.sh --help
# From a fresh clone, too: makes .venv where there is none and PYTHON names no other.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("$root/scripts/venv.sh")/bin/python
[[ -x $python || -n ${PYTHON:-} ]] || "$root/scripts/setup.sh"
[[ -x $python ]] || python=${PYTHON:-python3}
PYTHONPATH=$root/scripts:$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m pipeline.pool "$@"
