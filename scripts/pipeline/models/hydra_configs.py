"""Read Hydra configs, and write overrides that may contain any path."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import OmegaConf

from pipeline.engine.errors import PipelineError

# The name of another setting. Every path that the pipeline sets has a slash.
_INTERPOLATION = re.compile(r"\$\{\w+(\.\w+)+\}")

ONE_AT_A_TIME = threading.Lock()
"""A lock for code that reads or changes the state that Hydra shares between threads.

This state is the folder of the configs, and the options that fairseq registers when imported.
"""


def resolve(config_dir: Path, name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config and its base configs, as ``{dotted key: value}``.

    Raises:
        PipelineError: the config is missing or invalid.
    """
    return {**_resolved(_Files.of(config_dir), name), **overrides}


@dataclass(frozen=True)
class _Files:
    """The configs of a folder. Two folders with the same files compare equal.

    Attributes:
        texts: for each file, its path in the folder and its content.
        folder: the folder.
    """

    texts: tuple[tuple[str, bytes], ...]
    folder: Path = field(compare=False)

    @classmethod
    def of(cls, folder: Path) -> _Files:
        files = sorted(folder.rglob("*.yaml"))
        return cls(
            tuple((str(path.relative_to(folder)), path.read_bytes()) for path in files), folder
        )


@functools.lru_cache(maxsize=512)
def _resolved(files: _Files, name: str) -> dict[str, Any]:
    """Return what `resolve` does, cached for the same files: Hydra takes a tenth of a second."""
    try:
        config = compose(files.folder, name)
    except HydraException as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{files.folder / name}.yaml: {reason}") from None
    return _flatten(OmegaConf.to_container(config))


def compose(config_dir: Path, name: str, overrides: Sequence[str] = ()) -> Any:
    """Return a config that Hydra composes from its files and from overrides."""
    # fairseq is written for version 1.1. The setting holds for the whole process: a later version
    # would break fairseq's own parser.
    with (
        ONE_AT_A_TIME,
        hydra.initialize_config_dir(config_dir=str(config_dir), version_base="1.1"),
    ):
        return hydra.compose(config_name=name, overrides=list(overrides))


def arguments(overrides: Mapping[str, Any]) -> list[str]:
    """Return overrides as Hydra's command line reads them."""
    return [f"{key}={literal(value)}" for key, value in overrides.items()]


def forced(overrides: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Return overrides as arguments, also of settings that the config itself does not set.

    Args:
        overrides: what to set.
        known: the dotted keys that the config itself sets, as :func:`resolve` returns them.
    """
    present = set(known)
    return [
        ("" if key in present else "++") + argument
        for key, argument in zip(overrides, arguments(overrides), strict=True)
    ]


def literal(value: Any) -> str:
    """Return a value in Hydra's grammar for overrides.

    Strings are quoted, because a path may hold spaces, commas, brackets or quotes. Only an
    interpolation, such as ``${optimization.max_update}``, is not quoted: Hydra replaces it.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(item) for item in value) + "]"
    if _INTERPOLATION.fullmatch(str(value)):
        return str(value)
    return f"'{_quoted(str(value))}'"


def _quoted(text: str) -> str:
    # A backslash is an ordinary character, but before a quote it escapes. OmegaConf reads ${...}.
    text = re.sub(r"(\\*)(\$\{)", r"\1\1\\\2", text)
    text = re.sub(r"(\\*)'", r"\1\1\\'", text)
    return re.sub(r"(\\+)$", r"\1\1", text)


def _flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix: node}
    flat: dict[str, Any] = {}
    for key, value in node.items():
        flat |= _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat
