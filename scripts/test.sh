#!/usr/bin/env bash
# Sets up .venv and runs the linters and the tests.
#
#   ./scripts/test.sh                 everything
#   ./scripts/test.sh -m 'not slow'   the fast tests; any further pytest options follow
#   PYTHON=python3.12 ./scripts/test.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

./scripts/setup.sh dev
export PATH="$PWD/.venv/bin:$PATH"

ruff check .
ruff format --check .
shellcheck scripts/*.sh examples/*.sh examples/slurm/*.sbatch .ci/run
pytest "$@"
