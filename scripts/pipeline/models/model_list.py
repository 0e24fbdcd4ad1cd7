"""The list of models: ``configs/models.yaml``, and the changes in a ``pair.yaml``."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from pipeline.engine.errors import PipelineError
from pipeline.models import students
from pipeline.models.training_text import REFERENCES, Text, members

# The colours of ka_fairseq.analysis.plotting. Models that name no colour get one of the first six.
COLOURS = ("blue", "orange", "green", "pink", "yellow", "sky", "black", "grey")
_OF_SERIES = COLOURS[:6]
# Names that models cannot have: each model has a folder, a log and a stage of its name.
_TAKEN = {
    *(
        "prepare",
        "binarize",
        "translate",
        "text",
        "cache",
        "lenpen",
        "evaluate",
        "export",
        "speed",
        "report",
        "analysis",
        "sweep",
        "compare",
        "tests",
    ),
    *("texts", "translated", "bin", "logs", "state", "archives", "model"),
}


@dataclass(frozen=True)
class Model:
    """One model of a pair.

    Attributes:
        name: the name of the model, of its stage and of its folder.
        title: the name in tables and figures.
        start: the model that the training starts from, or None.
        layers: how many of the start's first layers the model takes over, by ``encoder`` and
            ``decoder``; empty: all layers.
        teacher: the model that teaches, an ensemble (``first+second``), or None.
        config: the name of its Hydra config, or of its method; see `pipeline.models.methods`.
        settings: settings that differ from the config, by dotted keys.
        student: a preset of the size, or None. Models that start from this model, or are trained
            with its config, have the same preset.
        colour: the colour in figures: one of `COLOURS`, or ``#rrggbb``.
        text: the training text; see `training_text.Text`.
        translator: the model or ensemble that translated the text; None: the teacher.
        default: whether the model is trained if no stage is named.
    """

    name: str
    title: str = ""
    start: str | None = None
    layers: Mapping[str, int] = field(default_factory=dict)
    teacher: str | None = None
    config: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    student: str | None = None
    colour: str = "black"
    text: str | Mapping[str, int] = REFERENCES
    translator: str | None = None
    default: bool = True

    @property
    def teachers(self) -> tuple[str, ...]:
        """The models that teach: one model, an ensemble, or none."""
        return members(self.teacher)

    @property
    def training_text(self) -> Text:
        """The training text."""
        return Text.load(self.text, self.translator or self.teacher, f"models.{self.name}")


FIELDS = tuple(f.name for f in dataclasses.fields(Model) if f.name != "name")


def merged(common: Mapping[str, Any], own: Mapping[str, Any] | None, path: Path) -> list[Model]:
    """Return the models of a pair.

    Args:
        common: the models of all pairs, as in ``configs/models.yaml``.
        own: models that the pair adds or changes; None as an entry removes a model.
        path: the file with `own`, for errors.

    Raises:
        PipelineError: a name or a field is invalid, or a model refers to a later model.
    """
    if not isinstance(own or {}, Mapping):
        raise PipelineError(f"{path}: models is a list of names, each with its fields")
    entries = {name: dict(entry or {}) for name, entry in common.items()}
    for name, entry in (own or {}).items():
        if entry is None and name in common:
            del entries[name]
            continue
        if not isinstance(entry, Mapping):
            raise PipelineError(
                f"{path}: models.{name} needs fields: choose from {', '.join(FIELDS)}"
            )
        entries[name] = {**entries.get(name, {}), **entry}
    models: dict[str, Model] = {}
    used = {entry.get("colour") for entry in entries.values()}
    free = chain([colour for colour in _OF_SERIES if colour not in used], cycle(_OF_SERIES))
    for name, entry in entries.items():
        where = f"{path}: models.{name}"
        _check(str(name), entry, models, where)
        student, preset = _student(entry, models, path.parent, where)
        models[name] = Model(
            name,
            **{
                **entry,
                "title": str(entry.get("title") or name),
                "config": str(entry.get("config") or name),
                "settings": {**preset, **(entry.get("settings") or {})},
                "student": student,
                "colour": str(entry.get("colour") or next(free)),
                "text": entry.get("text") or REFERENCES,
                "layers": entry.get("layers") or {},
            },
        )
    return list(models.values())


def _student(
    entry: Mapping[str, Any], before: Mapping[str, Model], config_dir: Path, where: str
) -> tuple[str | None, dict[str, Any]]:
    """Return a model's preset and the preset's settings.

    A model without a preset gets the preset of its start, or of the model whose config it uses. So
    the two models can be compared.
    """
    start = entry.get("start")
    like = before.get(start or entry.get("config"))
    inherited = like.student if like else None
    student = entry.get("student") or inherited
    if student is None:
        return None, {}
    if start and student != inherited:
        raise PipelineError(
            f"{where}.student: the size is that of {start}, its start: leave student out"
        )
    try:
        return student, students.settings(student, config_dir, start=bool(start))
    except PipelineError as error:
        raise PipelineError(f"{where}: {error}") from None


def _check(name: str, entry: Mapping[str, Any], before: Mapping[str, Model], where: str) -> None:
    if name in _TAKEN or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
        raise PipelineError(f"{where}: choose another name, of letters, digits, - and _")
    if unknown := [key for key in entry if key not in FIELDS]:
        raise PipelineError(f"{where} has no field {unknown[0]}: choose from {', '.join(FIELDS)}")
    for key, others in {
        "start": (entry.get("start"),),
        "teacher": members(entry.get("teacher")),
    }.items():
        if unknown := [other for other in others if other is not None and other not in before]:
            known = ", ".join(before) or "none"
            raise PipelineError(f"{where}.{key}: {unknown[0]} is no earlier model ({known})")
    Text.load(entry.get("text"), None, where)
    if not isinstance(entry.get("default", True), bool):
        raise PipelineError(f"{where}.default: true or false")
    title = str(entry.get("title") or name)
    if title in {model.title for model in before.values()}:
        raise PipelineError(f"{where}.title: {title} is the title of another model")
    _check_layers(entry, where)
    if not isinstance(entry.get("settings") or {}, Mapping):
        raise PipelineError(f"{where}.settings: give settings by dotted keys")
    colour = str(entry.get("colour") or "blue")
    if colour not in COLOURS and not re.fullmatch(r"#[0-9A-Fa-f]{6}", colour):
        raise PipelineError(f"{where}.colour: choose from {', '.join(COLOURS)}, or '#rrggbb'")


def _check_layers(entry: Mapping[str, Any], where: str) -> None:
    layers = entry.get("layers")
    if layers is None:
        return
    if not entry.get("start"):
        raise PipelineError(f"{where}.layers: add start, the model with these layers")
    students.check_layers(layers, f"{where}.layers")
