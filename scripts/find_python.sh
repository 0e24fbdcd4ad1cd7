#!/usr/bin/env bash
# Prints the path of a Python that runs: scripts/find_python.sh python3.10
# If the Python does not run, the script prints nothing and its exit status is 1.
#
# Under pyenv the command of an installed version runs only if this version is selected. So the script asks
# pyenv for the newest installed version that has the command.
set -euo pipefail

name=$1

runs() {
    "$1" -c '' >/dev/null 2>&1
}

if runs "$name"; then
    command -v "$name"
    exit
fi
command -v pyenv >/dev/null || exit 1
version=$(pyenv whence "$name" 2>/dev/null | sort -V | tail -n 1)
[[ -n $version ]] || exit 1
PYENV_VERSION=$version pyenv which "$name"
