#!/usr/bin/env bash
# Tunes λ and k on the validation set, and draws Fig. 4a: scripts/sweep.sh --help
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=$("$root/scripts/python.sh")
PYTHONPATH=$root/scripts:$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m pipeline.sweep "$@"
