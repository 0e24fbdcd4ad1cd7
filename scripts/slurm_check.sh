#!/usr/bin/env bash
# Tries the package on a real SLURM: starts a private one of two nodes on this machine, in a temporary
# folder with ports of its own, trains and translates on it, and stops what it started. About five minutes.
#
#   scripts/slurm_check.sh            all of it
#   scripts/slurm_check.sh -k array   pytest's options follow
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
