#!/usr/bin/env bash
# Makes the virtual environment with everything that the scripts need. A finished environment stays as it is.
# The folder is .venv. If PYTHON names a Python, the folder is .venv-3.12 or the like.
#
#   scripts/setup.sh             installs what training and translating need
#   scripts/setup.sh dev         also installs what the tests need
#   PYTHON=python3.12 scripts/setup.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

fail() {
    echo "error: $*" >&2
    exit 1
}

extra=${1:-pipeline}
case $extra in
    pipeline | dev) ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' scripts/setup.sh
        exit
        ;;
    *) fail "scripts/setup.sh $extra: choose dev, or no word" ;;
esac
# .ci/run makes .venv a link to an environment that several checkouts use in turn.
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

# A checksum of what is installed: the constraints, and pyproject.toml without the settings of tools.
pins=$(sed '/^\[tool\./,$d' pyproject.toml | cat - "$constraints" | cksum)
# The stamp has three lines: what was installed, its extra (dev includes pipeline), and the checkout that the
# package is imported from.
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
    # pip comes first: a newer pip refuses the OmegaConf that fairseq 0.12.2 requires.
    "${install[@]}" pip || fail "pip could not install the pip that $constraints names"
    # torch comes next, alone: if torch came as a dependency, pip could choose another build.
    "${install[@]}" torch || fail "pip could not install torch"
fi
# The package comes before its dependencies. It is built in a folder beside pyproject.toml, and two Pythons may
# be set up at the same time: the lock makes them take turns.
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
