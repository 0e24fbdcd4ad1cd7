"""The shell commands of README and docs, for the tests that run them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support import ROOT, quick_path

PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")})
SCRIPTS = re.compile(r"(?:\./)?scripts/(pipeline|compare|sweep|engines)\.sh\b")


def blocks(page: Path, language: str = "bash") -> list[str]:
    """A page's blocks of commands, or of another language, with lines that go on joined."""
    found = re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    return [block.replace("\\\n", " ") for block in found]


def lines(page: Path) -> list[str]:
    """A page's commands, a line each, without comments."""
    found = (
        re.sub(r"(^|\s+)#.*", "", line).strip() for b in blocks(page) for line in b.split("\n")
    )
    return [line for line in found if line]


def block_with(page: str, words: str, language: str = "bash") -> str:
    """The one block of a page that has these words."""
    (found,) = [block for block in blocks(ROOT / page, language) if words in block]
    return found


def typed_path() -> str:
    """A search path with this Python's commands, as in an environment that is activated."""
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])


def run_block(block: str, folder: Path, *smaller: tuple[str, str], as_typed: bool = False) -> str:
    """Run a block in a folder, as it is but for what makes it smaller; return what it printed.

    Args:
        block: what :func:`block_with` found.
        folder: where it runs.
        smaller: what stands in the block, and what is run in its place.
        as_typed: with fairseq's own commands, not with those that start sooner.
    """
    for long, short in smaller:
        assert long in block, f"no {long!r} in:\n{block}"
        block = block.replace(long, short)
    path = typed_path() if as_typed else quick_path()
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, f"{block}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
    return result.stdout
