"""Hydra configs: what is in one, and overrides that survive any path."""

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

ONE_AT_A_TIME = threading.Lock()
"""For what reads or changes what Hydra keeps in one place for all threads: the folder that configs
come from, and the options that fairseq registers when it is imported."""


def resolve(config_dir: Path, name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a config with all that it builds on, as ``{dotted key: value}``.

    Raises:
        PipelineError: it is missing, or no valid config.
    """
    return {**_resolved(_Files.of(config_dir), name), **overrides}


@dataclass(frozen=True)
class _Files:
    """The configs of a folder; those of two folders with the same texts are the same.

    Attributes:
        texts: of each file its path in the folder, and what it holds.
        folder: where they are.
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
    """As `resolve`, once for the same files: Hydra takes a tenth of a second."""
    try:
        config = compose(files.folder, name)
    except HydraException as error:
        reason = " ".join(str(error).split())
        raise PipelineError(f"{files.folder / name}.yaml: {reason}") from None
    return _flatten(OmegaConf.to_container(config))


def compose(config_dir: Path, name: str, overrides: Sequence[str] = ()) -> Any:
    """Return a config as Hydra puts it together from its files, and from overrides if any."""
    # 1.1 is what fairseq is written for; the setting is the whole process's, and with a later one
    # fairseq's own parser stops working in it.
    with (
        ONE_AT_A_TIME,
        hydra.initialize_config_dir(config_dir=str(config_dir), version_base="1.1"),
    ):
        return hydra.compose(config_name=name, overrides=list(overrides))


def arguments(overrides: Mapping[str, Any]) -> list[str]:
    """Return overrides as Hydra's command line reads them."""
    return [f"{key}={literal(value)}" for key, value in overrides.items()]


def forced(overrides: Mapping[str, Any], known: Iterable[str]) -> list[str]:
    """Return overrides also of what a config leaves at fairseq's default.

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
    """Write a value in Hydra's grammar for overrides.

    Strings are always quoted, as a path may hold spaces, commas, brackets or quotes.
    """
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ",".join(literal(item) for item in value) + "]"
    return f"'{_quoted(str(value))}'"


def _quoted(text: str) -> str:
    # A backslash counts as one except before a quote, where it escapes; OmegaConf reads ${...}.
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
