"""The shell commands of README and docs, for the tests that run them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from tests.support import ROOT, quick_path

PAGES = sorted({ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*.md")})
SCRIPTS = re.compile(r"(?:\./)?scripts/(pipeline|compare|sweep|engines)\.sh\b")


def blocks(page: Path) -> list[str]:
    """A page's blocks of commands, with lines that go on joined."""
    found = re.findall(r"^```bash\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)
    return [block.replace("\\\n", " ") for block in found]


def lines(page: Path) -> list[str]:
    """A page's commands, a line each, without comments."""
    found = (
        re.sub(r"(^|\s+)#.*", "", line).strip() for b in blocks(page) for line in b.split("\n")
    )
    return [line for line in found if line]


def block_with(page: str, words: str) -> str:
    """The one block of a page that has these words."""
    (found,) = [block for block in blocks(ROOT / page) if words in block]
    return found


def run_block(block: str, folder: Path, *smaller: tuple[str, str]) -> str:
    """Run a block in a folder, as it is but for what makes it smaller; return what it printed."""
    for long, short in smaller:
        assert long in block, f"no {long!r} in:\n{block}"
        block = block.replace(long, short)
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": quick_path(), "OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == 0, f"{block}\n{result.stdout[-2000:]}\n{result.stderr[-3000:]}"
    return result.stdout
