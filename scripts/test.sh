#!/usr/bin/env bash
# Sets up a virtual environment and runs the linters and the tests.
#
#   ./scripts/test.sh                 runs the tests that every change needs
#   ./scripts/test.sh --all           runs all tests
#   ./scripts/test.sh tests/docs -k links   runs some tests: passes pytest's options and files on
#   ./scripts/test.sh -m slow         replaces the default, -m 'not extended'
#   ./scripts/test.sh --no-lint       skips the linters
#   PYTHON=python3.12 ./scripts/test.sh   uses this Python, in .venv-3.12
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

level=(-m "not extended")
lint=1
options=()
for word in "$@"; do
    case $word in
        -h | --help)
            sed -n '2,/^set/s/^# \{0,1\}//p' scripts/test.sh
            exit
            ;;
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
    shellcheck scripts/*.sh examples/*.sh examples/slurm/*.sbatch .ci/run
fi
# Three files run at a time, each with one thread. Three workers keep two cores busy: a worker sometimes waits for
# what another worker makes for all.
# tests/conftest.py orders the files: the longest comes first. pytest names the slowest ten tests at the end.
export OMP_NUM_THREADS=1
pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 10 \
    ${level[@]+"${level[@]}"} ${options[@]+"${options[@]}"}
