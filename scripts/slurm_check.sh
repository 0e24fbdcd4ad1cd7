#!/usr/bin/env bash
# Tests the package on a real SLURM. The script starts a private SLURM of two nodes on this machine, in a
# temporary folder and on its own ports. It trains and translates there, and stops SLURM again. This takes about
# five minutes.
#
#   scripts/slurm_check.sh            runs all tests
#   scripts/slurm_check.sh -k array   passes pytest's options on
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

missing=()
for daemon in munged slurmctld slurmd; do
    PATH=$PATH:/usr/sbin:/sbin command -v "$daemon" >/dev/null || missing+=("$daemon")
done
if ((${#missing[@]})); then
    echo "error: no ${missing[*]} here: install Debian's packages slurm-wlm and munge" >&2
    exit 1
fi
./scripts/setup.sh dev
export OMP_NUM_THREADS=1
exec "$(./scripts/venv.sh)/bin/pytest" -n0 tests/slurm "$@"
