#!/usr/bin/env bash
# Sets up a virtual environment and runs the linters and the tests.
#
#   ./scripts/test.sh                 everything
#   ./scripts/test.sh -m 'not slow'   the fast tests; any further pytest options follow
#   PYTHON=python3.12 ./scripts/test.sh   with that Python, in .venv-3.12
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./scripts/setup.sh dev
venv=$(./scripts/venv.sh)
export PATH="$venv/bin:$PATH"

ruff check .
ruff format --check .
shellcheck scripts/*.sh examples/*.sh examples/slurm/*.sbatch .ci/run tests/quick/fairseq-train
# Two files at a time, each with a thread: most of a test's time is one process that starts. In the order
# of tests/conftest.py, the longest first; the slowest ten are named at the end.
export OMP_NUM_THREADS=1
pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10 "$@"
