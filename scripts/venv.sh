#!/usr/bin/env bash
# Prints the folder of the virtual environment that the scripts use. The folder is .venv. If PYTHON names a
# Python, the folder is .venv-3.10 or the like, so that each version has its own environment.
set -euo pipefail
scripts=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

suffix=
if [[ -n ${PYTHON:-} ]]; then
    python=$("$scripts/find_python.sh" "$PYTHON") || {
        echo "error: $PYTHON does not run: install it, or set PYTHON to a Python 3.11 or 3.12" >&2
        exit 1
    }
    suffix=-$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
fi
echo "$(dirname "$scripts")/.venv$suffix"
