#!/usr/bin/env bash
# Prints the path of a Python that runs, or nothing and ends with 1: scripts/find_python.sh python3.10
#
# Under pyenv each version that is installed has a command, which runs only where the version is
# selected; so it is asked for the newest that has the command.
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
