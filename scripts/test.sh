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
shellcheck scripts/*.sh examples/*.sh examples/slurm/*.sbatch .ci/run
pytest "$@"
