"""Which Python the scripts use, and where its environment lies."""

import os
import subprocess

import pytest

from tests.support import ROOT


def fake(folder, name, version, runs=True):
    """A Python that says what version it is; or pyenv's command for one that is not selected."""
    folder.mkdir(exist_ok=True)
    script = folder / name
    script.write_text(f"#!/bin/sh\n[ -n '{'x' if runs else ''}' ] || exit 127\necho {version}\n")
    script.chmod(0o755)
    return script


def script(name, *arguments, **environment):
    result = subprocess.run(
        [ROOT / "scripts" / name, *arguments],
        env={"PATH": os.defpath, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return result.returncode, result.stdout.strip(), result.stderr.strip()


def test_without_a_python_named_it_is_dot_venv():
    assert script("venv.sh") == (0, str(ROOT / ".venv"), "")
    assert script("venv.sh", PYTHON="") == (0, str(ROOT / ".venv"), "")


@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_a_python_that_is_named_has_an_environment_of_its_own(tmp_path, version):
    python = fake(tmp_path / "a folder", "python", version)
    assert script("venv.sh", PYTHON=str(python)) == (0, str(ROOT / f".venv-{version}"), "")


def test_a_python_that_does_not_run_is_one_line(tmp_path):
    for python in (tmp_path / "none", fake(tmp_path, "broken", "3.10", runs=False)):
        code, printed, error = script("venv.sh", PYTHON=str(python))
        assert code and not printed and "\n" not in error
        assert error.startswith(f"error: {python} does not run: install it, or set PYTHON")


def test_a_python_of_pyenv_need_not_be_selected(tmp_path):
    commands = tmp_path / "bin"
    fake(commands, "python3.10", "3.10", runs=False)
    pyenv = commands / "pyenv"
    pyenv.write_text(
        "#!/bin/sh\n"
        'case "$1 $2 $PYENV_VERSION" in\n'
        '"whence python3.10 ") printf "3.10.2\\n3.10.13\\n" ;;\n'
        '"which python3.10 3.10.13") echo /pyenv/3.10.13/python3.10 ;;\n'
        "*) exit 1 ;;\nesac\n"
    )
    pyenv.chmod(0o755)
    path = f"{commands}:{os.defpath}"
    assert script("find_python.sh", "python3.10", PATH=path) == (0, "/pyenv/3.10.13/python3.10", "")
    assert script("find_python.sh", "python3.9", PATH=path)[0] == 1
