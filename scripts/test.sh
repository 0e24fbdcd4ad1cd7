#!/usr/bin/env bash
# Sets up a virtual environment and runs the linters and the tests.
#
#   ./scripts/test.sh                 what every change needs
#   ./scripts/test.sh --all           everything
#   ./scripts/test.sh tests/docs -k links   pytest's options and files follow
#   ./scripts/test.sh -m slow         -m takes the place of the default's, -m 'not extended'
#   ./scripts/test.sh --no-lint       without the linters
#   PYTHON=python3.12 ./scripts/test.sh   with that Python, in .venv-3.12
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level=(-m "not extended")
lint=1
options=()
for word in "$@"; do
    case $word in
        --all) level=(--hypothesis-profile=all) ;;
        --no-lint) lint= ;;
        *) options+=("$word") ;;
    esac
done

./scripts/setup.sh dev
venv=$(./scripts/venv.sh)
export PATH="$venv/bin:$PATH"

if [[ -n $lint ]]; then
    ruff check .
    ruff format --check .
    shellcheck scripts/*.sh examples/*.sh examples/slurm/*.sbatch .ci/run tests/quick/fairseq-train
fi
# Two files at a time, each with a thread: most of a test's time is one process that starts. In the order
# of tests/conftest.py, the longest first; the slowest ten are named at the end.
export OMP_NUM_THREADS=1
pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 10 \
    ${level[@]+"${level[@]}"} ${options[@]+"${options[@]}"}
