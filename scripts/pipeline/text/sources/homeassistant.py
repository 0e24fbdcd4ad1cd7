"""German-English strings of the user interface of Home Assistant (Apache-2.0), from its wheel."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.engine.errors import PipelineError
from pipeline.engine.progress import bar

REQUIREMENT = "homeassistant==2026.2.3"
LICENCE = f"translations of Home Assistant, Apache-2.0, from the pip package {REQUIREMENT}"

Pair = tuple[str, str]


def read_pairs() -> list[Pair]:
    """Download the wheel into a temporary folder and pair its strings.

    Returns:
        (German, English) pairs in the order of the files.

    Raises:
        PipelineError: pip cannot download the wheel.
    """
    with tempfile.TemporaryDirectory(prefix="ka-fairseq-") as folder:
        # The wheel asks for a newer Python than ours. It is pure Python, and only read as a zip.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--python-version", "3.14", "--dest", folder]
        result = subprocess.run(
            [*command, REQUIREMENT], capture_output=True, text=True, check=False
        )
        wheels = list(Path(folder).glob("*.whl"))
        if result.returncode != 0 or not wheels:
            lines = result.stderr.strip().splitlines()
            reason = lines[-1] if lines else f"exit code {result.returncode}"
            raise PipelineError(f"pip could not download {REQUIREMENT}: {reason}")
        with zipfile.ZipFile(wheels[0]) as wheel:
            return list(align_wheel(wheel))


def align_wheel(wheel: zipfile.ZipFile) -> Iterator[Pair]:
    """Yield the pairs of all translation files; texts with the same path of keys form a pair."""
    names = set(wheel.namelist())
    for name in bar(sorted(names), "aligning translations"):
        german = name.removesuffix("en.json") + "de.json"
        if not name.endswith("/translations/en.json") or german not in names:
            continue
        source = dict(_strings(json.loads(wheel.read(german))))
        for path, target in _strings(json.loads(wheel.read(name))):
            if source.get(path) and target:
                yield source[path], target


def _strings(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield (path of keys, text) of each string in a tree of JSON objects."""
    if isinstance(node, str):
        yield path, " ".join(node.split())
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _strings(value, (*path, key))
