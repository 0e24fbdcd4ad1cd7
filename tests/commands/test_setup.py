"""scripts/setup.sh and .ci/run: what is installed, and what is found done.

With Pythons that write down what pip is asked for, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.support import ROOT

PYTHON = """\
#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip") shift 2; echo "$*" >>"$ASKED" ;;
*version_info*) echo {version} ;;
*find_spec*) exit 1 ;;
*) echo "$0" ;;
esac
"""
DOES_NOT_RUN = "#!/bin/sh\nexit 127\n"


class Machine:
    """A folder as home, with commands and checkouts of its own."""

    def __init__(self, folder) -> None:
        self.folder = folder
        self.command("python3", PYTHON.format(version="3.11"))
        self.command("python3.10", DOES_NOT_RUN)
        self.command("chromium", "#!/bin/sh\n")
        self.command("slurmctld", "#!/bin/sh\n")

    def command(self, name: str, text: str) -> None:
        """Put a command into PATH."""
        file = self.folder / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
        file.chmod(0o755)

    def checkout(self, name: str):
        """Copy what set-up and CI read; the tests themselves are a word that is printed."""
        folder = self.folder / name
        shutil.copytree(ROOT / "scripts", folder / "scripts", ignore=lambda where, names: {
            name for name in names if not name.endswith(".sh")
        })  # fmt: skip
        shutil.copytree(ROOT / ".ci", folder / ".ci")
        for file in (ROOT / "pyproject.toml", *ROOT.glob("constraints*.txt")):
            shutil.copy(file, folder)
        for script, says in (("test.sh", "tested $PYTHON"), ("slurm_check.sh", "on SLURM")):
            (folder / "scripts" / script).write_text(f'echo "{says} $*"\n', encoding="utf-8")
        return folder

    def run(self, *command: object) -> tuple[str, list[str]]:
        """Run a command: what it printed, and what pip was asked for."""
        asked = self.folder / "asked"
        asked.write_text("")
        result = subprocess.run(
            list(map(str, command)),
            env={
                "PATH": f"{self.folder / 'bin'}:{os.defpath}",
                "HOME": str(self.folder),
                "ASKED": str(asked),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout, [line.split()[-1] for line in asked.read_text().splitlines()]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


EVERYTHING = ["pip", "torch", ".", "ka-fairseq[dev]"]


def test_what_is_installed_is_not_installed_again(machine):
    checkout = machine.checkout("here")
    set_up = checkout / "scripts" / "setup.sh"
    assert machine.run(set_up, "dev")[1] == EVERYTHING
    assert machine.run(set_up, "dev")[1] == machine.run(set_up)[1] == []
    settings = checkout / "pyproject.toml"
    settings.write_text(settings.read_text("utf-8") + "\n[tool.other]\n", encoding="utf-8")
    assert machine.run(set_up, "dev")[1] == []
    pins = checkout / "constraints.txt"
    pins.write_text(pins.read_text("utf-8") + "another==1\n", encoding="utf-8")
    assert machine.run(set_up, "dev")[1] == EVERYTHING


@pytest.mark.parametrize("name", ["pipeline", "compare", "sweep", "engines", "pool"])
def test_a_script_in_a_fresh_clone_makes_its_environment(machine, name):
    checkout = machine.checkout("here")
    script = checkout / "scripts" / f"{name}.sh"
    printed, asked = machine.run(script, "--help")
    assert asked == ["pip", "torch", ".", "ka-fairseq[pipeline]"]
    assert printed == f"{checkout / '.venv' / 'bin' / 'python'}\n"  # what the script runs
    assert machine.run(script, "--help") == (printed, [])


def test_a_python_that_has_the_packages_needs_no_environment(machine):
    checkout = machine.checkout("here")
    machine.command("python3", PYTHON.format(version="3.11").replace("exit 1", "exit 0"))
    assert machine.run(checkout / "scripts" / "pipeline.sh")[1] == []
    assert not (checkout / ".venv").exists()


def test_help_installs_nothing(machine):
    checkout = machine.checkout("here")
    shutil.copy(ROOT / "scripts" / "test.sh", checkout / "scripts")
    for name in ("demo.sh", "setup.sh", "test.sh"):
        printed, asked = machine.run(checkout / "scripts" / name, "--help")
        assert f"scripts/{name} " in printed and "set -euo" not in printed and asked == []
    assert not (checkout / ".venv").exists()


def test_setup_refuses_an_unknown_word(machine):
    with pytest.raises(AssertionError, match=r"error: scripts/setup\.sh pipelines: choose dev"):
        machine.run(machine.checkout("here") / "scripts" / "setup.sh", "pipelines")


def test_ci_installs_once_and_then_the_package_alone(machine):
    printed, asked = machine.run(machine.checkout("first") / ".ci" / "run")
    assert asked == EVERYTHING and "tested" in printed and "no python3.10 here" in printed
    assert "on SLURM -k array or (two_tasks and True)" in printed
    second = machine.checkout("second")
    assert machine.run(second / ".ci" / "run")[1] == ["."]
    assert machine.run(second / "scripts" / "setup.sh", "dev")[1] == []


def test_ci_trusts_no_environment_that_was_cut_off_and_keeps_no_old_one(machine):
    first = machine.checkout("first")
    machine.run(first / ".ci" / "run")
    kept = (first / ".venv").resolve()
    (kept / "installed").unlink()
    (kept / "half of a package").touch()
    second = machine.checkout("second")
    assert machine.run(second / ".ci" / "run")[1] == EVERYTHING
    assert not (kept / "half of a package").exists()
    third = machine.checkout("third")
    pins = third / "constraints.txt"
    pins.write_text(pins.read_text("utf-8") + "another==1\n", encoding="utf-8")
    assert machine.run(third / ".ci" / "run")[1] == EVERYTHING
    assert not kept.exists() and (third / ".venv").resolve().parent == kept.parent


def test_ci_tests_with_the_older_python_where_there_is_one(machine):
    machine.command("python3.10", PYTHON.format(version="3.10"))
    checkout = machine.checkout("here")
    printed, asked = machine.run(checkout / ".ci" / "run")
    assert sorted(asked) == sorted(EVERYTHING * 2)
    tested = [line for line in printed.splitlines() if line.startswith("tested")]
    assert [line.split()[1:2] for line in tested] == [[], ["python3.10"]]
    assert "--no-lint -m older and not extended" in tested[1]
    assert (checkout / ".venv").resolve() != (checkout / ".venv-3.10").resolve()


def test_without_a_place_to_keep_it_the_checkout_has_its_own(machine):
    (machine.folder / ".cache").write_text("no folder")
    checkout = machine.checkout("here")
    assert machine.run(checkout / ".ci" / "run")[1] == EVERYTHING
    assert not (checkout / ".venv").is_symlink()
