#!/usr/bin/env bash
# Makes the virtual environment with everything that the scripts need; does nothing where it is
# there already. It is .venv, or .venv-3.12 and the like where PYTHON says which Python to use.
#
#   scripts/setup.sh             to train and translate
#   scripts/setup.sh dev         and to test
#   PYTHON=python3.12 scripts/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "error: $*" >&2
    exit 1
}

extra=${1:-pipeline}
# Where it is a link, it leads to one that serves one checkout after the other (.ci/run).
venv=$(readlink -f "$(./scripts/venv.sh)")
stamp=$venv/installed

python=$venv/bin/python
if [[ -n ${PYTHON:-} ]]; then
    python=$(./scripts/find_python.sh "$PYTHON")
elif [[ ! -x $python ]]; then
    python=$(./scripts/find_python.sh python3) ||
        fail "python3 does not run: install Python 3.11 or 3.12, or set PYTHON"
fi
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
    3.11 | 3.12) ;;
    3.10) [[ $extra == dev ]] ||
        fail "the scripts need Python 3.11 or 3.12: set PYTHON to one. With Python 3.10 the plugin alone runs (docs/install.md)" ;;
    *) fail "Python $version is not supported: set PYTHON to a Python 3.11 or 3.12" ;;
esac

constraints="constraints.txt"
if [[ $version == 3.10 ]]; then
    constraints="constraints-py310.txt"
fi

# What is installed: of pyproject.toml all but the settings of tools.
pins=$(sed '/^\[tool\./,$d' pyproject.toml | cat - "$constraints" | cksum)
# The stamp's lines: what was asked for; the extra that came with it (dev has pipeline in it); the
# checkout that the package is imported from.
wanted="Python $version, $pins, $venv"
installed=
extras=
checkout=
if [[ -f $stamp ]]; then
    { read -r installed && read -r extras && read -r checkout; } <"$stamp" || true
fi
same=
if [[ $installed == "$wanted" && ($extra == pipeline || $extras == "$extra") ]]; then
    same=1
    [[ $checkout != "$PWD" ]] || exit 0
fi

echo "setup: installing into ${venv##*/} (Python $version, $constraints)"
if [[ $installed != "$wanted" && $python != "$venv/bin/python" ]]; then
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "$python -m venv failed (on Debian: apt-get install python3-venv)"
fi
rm -f "$stamp"
broken="pip could not install what pyproject.toml asks for"
install=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$constraints")
if [[ -z $same ]]; then
    # pip before all: one that is too new refuses the OmegaConf that fairseq 0.12.2 asks for.
    "${install[@]}" pip || fail "pip could not install the pip that $constraints names"
    # torch on its own first: left to a dependency, pip may choose another build before it reads ours.
    "${install[@]}" torch || fail "pip could not install torch"
fi
# The package, which is built in a folder beside pyproject.toml, then what it asks for: two Pythons
# may be set up at the same time.
one_at_a_time=()
if command -v flock >/dev/null; then
    one_at_a_time=(flock pyproject.toml)
fi
${one_at_a_time[@]+"${one_at_a_time[@]}"} "${install[@]}" --no-deps -e . || fail "$broken"
if [[ -z $same ]]; then
    extras=$extra
    "${install[@]}" "ka-fairseq[$extra]" || fail "$broken"
fi
printf '%s\n%s\n%s\n' "$wanted" "$extras" "$PWD" >"$stamp"
