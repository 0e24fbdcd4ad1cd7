"""The list of models: ``configs/models.yaml``, and what a ``pair.yaml`` changes of it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from pipeline.errors import PipelineError

# Those of ka_fairseq.analysis.plotting; the first six are for models that name none.
COLOURS = ("blue", "orange", "green", "pink", "yellow", "sky", "black", "grey")
_OF_SERIES = COLOURS[:6]
# Each model has a folder, a log and a stage of its name.
_TAKEN = {
    *(
        "prepare",
        "binarize",
        "cache",
        "evaluate",
        "report",
        "analysis",
        "sweep",
        "compare",
        "tests",
    ),
    *("text", "bin", "logs", "state", "archives", "model"),
}


@dataclass(frozen=True)
class Model:
    """One model of a pair.

    Attributes:
        name: of its stage and of its folder.
        title: what tables and figures call it.
        start: the model that it goes on from, or None.
        teacher: the model that teaches it, or None.
        config: the name of its Hydra config.
        settings: what differs from the config, by dotted keys.
        colour: in figures: one of `COLOURS`, or ``#rrggbb``.
    """

    name: str
    title: str = ""
    start: str | None = None
    teacher: str | None = None
    config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    colour: str = "black"


FIELDS = tuple(f.name for f in dataclasses.fields(Model) if f.name != "name")


def merged(common: Mapping[str, Any], own: Mapping[str, Any] | None, path: Path) -> list[Model]:
    """Return the models of a pair.

    Args:
        common: what all pairs have, as in ``configs/models.yaml``.
        own: what one pair adds or changes; None leaves a model out.
        path: the file that has it, for errors.

    Raises:
        PipelineError: a name or field is not one, or a model names one that does not come before.
    """
    if not isinstance(own or {}, Mapping):
        raise PipelineError(f"{path}: models is a list of names, each with its fields")
    entries = {name: dict(entry or {}) for name, entry in common.items()}
    for name, entry in (own or {}).items():
        if entry is None and name in common:
            del entries[name]
            continue
        if not isinstance(entry, Mapping):
            raise PipelineError(f"{path}: models.{name} has no fields; of {', '.join(FIELDS)}")
        entries[name] = {**entries.get(name, {}), **entry}
    models: dict[str, Model] = {}
    used = {entry.get("colour") for entry in entries.values()}
    free = chain([colour for colour in _OF_SERIES if colour not in used], cycle(_OF_SERIES))
    for name, entry in entries.items():
        where = f"{path}: models.{name}"
        _check(str(name), entry, models, where)
        models[name] = Model(
            name,
            **{
                **entry,
                "title": str(entry.get("title") or name),
                "config": str(entry.get("config") or name),
                "settings": entry.get("settings") or {},
                "colour": str(entry.get("colour") or next(free)),
            },
        )
    return list(models.values())


def _check(name: str, entry: Mapping[str, Any], before: Mapping[str, Model], where: str) -> None:
    if name in _TAKEN or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise PipelineError(f"{where}: choose another name, of letters, digits, - and _")
    if unknown := [key for key in entry if key not in FIELDS]:
        raise PipelineError(f"{where} has no field {unknown[0]}: choose from {', '.join(FIELDS)}")
    for key in ("start", "teacher"):
        if (other := entry.get(key)) is not None and other not in before:
            known = ", ".join(before) or "none"
            raise PipelineError(f"{where}.{key}: {other} is no model before it ({known})")
    title = str(entry.get("title") or name)
    if title in {model.title for model in before.values()}:
        raise PipelineError(f"{where}.title: {title} is the title of another model")
    if not isinstance(entry.get("settings") or {}, Mapping):
        raise PipelineError(f"{where}.settings: give settings by dotted keys")
    colour = str(entry.get("colour") or "blue")
    if colour not in COLOURS and not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
        raise PipelineError(f"{where}.colour: choose from {', '.join(COLOURS)}, or '#rrggbb'")
