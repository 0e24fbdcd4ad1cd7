"""Presets for students: ``students/NAME.yaml``, which a model's entry names as its `student`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.models import Model

FOLDER = "students"
OWN = "own"
"""Stands for the size that a pair's configs have."""
COMMON = Path(__file__).resolve().parents[2] / "configs" / FOLDER


def settings(name: str, config_dir: Path, *, start: bool = False) -> dict[str, Any]:
    """Return what a preset sets of a Hydra config, by dotted keys.

    Args:
        name: of the preset.
        config_dir: a pair's; presets of its own are in its folder `FOLDER`.
        start: whether the model goes on from another. If so, what the preset sets besides
            the model (its keys with a dot, as a learning rate) is left out.

    Raises:
        PipelineError: there is none of this name, or it is no list of settings.
    """
    found = _presets(config_dir)
    if name not in found:
        raise PipelineError(f"student {name}: choose from {', '.join(sorted(found)) or 'none'}")
    content = yaml.safe_load(found[name].read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise PipelineError(f"{found[name]} should hold fairseq's settings of a model, by name")
    model = {f"model.{key}": value for key, value in content.items() if "." not in key}
    _check_heads(model, found[name])
    others = {key: value for key, value in content.items() if "." in key and not start}
    return {**others, **model}


def resized(model: Model, name: str, config_dir: Path) -> Model:
    """Return a model of the size that a preset has; `OWN` leaves it as it is.

    Its own settings come after those of the preset, as in a pair's list of models.

    Raises:
        PipelineError: see `settings`.
    """
    if name == OWN:
        return model
    preset = settings(name, config_dir, start=bool(model.start))
    own = {key: value for key, value in model.settings.items() if not key.startswith("model.")}
    return dataclasses.replace(model, student=name, settings={**preset, **own})


def check_names(names: Any, config_dir: Path, where: str) -> tuple[str, ...]:
    """Return the names of presets, each once, when all are there; `OWN` is one too.

    Args:
        names: a list of them.
        config_dir: see `settings`.
        where: they stand, for errors.

    Raises:
        PipelineError: a name is none.
    """
    known = [OWN, *sorted(_presets(config_dir))]
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise PipelineError(f"{where}: give a list of {', '.join(known)}")
    if unknown := [name for name in names if name not in known]:
        raise PipelineError(f"{where}: there is no {unknown[0]}: choose from {', '.join(known)}")
    for name in names:
        if name != OWN:
            settings(name, config_dir)
    return tuple(dict.fromkeys(names))


def check_starts(
    models: Mapping[str, Model], methods: Iterable[str], teachers: Iterable[str]
) -> None:
    """Check that methods can be trained at another size, and all that they go on from.

    Args:
        models: all of the pair, by name.
        methods: those that are compared.
        teachers: those that keep their size.

    Raises:
        PipelineError: one has a size of its own, or goes on from a teacher.
    """
    for method in methods:
        name: str | None = method
        while name is not None:
            if name in teachers:
                raise PipelineError(
                    f"--students: {method} goes on from {name}, which keeps its size: leave "
                    f"{method} out of --methods"
                )
            fixed = [key for key in models[name].settings if key.startswith("model.")]
            if fixed and models[name].student is None:
                also = "" if name == method else f", which {method} goes on from,"
                raise PipelineError(
                    f"--students: {name}{also} has a size of its own ({fixed[0]} in its settings): "
                    f"leave {method} out of --methods"
                )
            name = models[name].start


def check_dictionaries(preset: Mapping[str, Any], joint: bool, where: str) -> None:
    """Check that a model can be trained on the pair's segmentation.

    Args:
        preset: the settings of a model, by dotted keys.
        joint: whether both languages have one dictionary.
        where: the preset is asked for, for errors.

    Raises:
        PipelineError: it shares embeddings between languages whose dictionaries differ.
    """
    shared = [key for key in ("model.share_all_embeddings",) if preset.get(key)]
    if shared and not joint:
        raise PipelineError(
            f"{where} does not fit the segmentation: it has {shared[0].partition('.')[2]}, and the "
            "teacher's dictionaries are two; name a preset without, in students/ beside pair.yaml"
        )


def _check_heads(model: Mapping[str, Any], path: Path) -> None:
    for side in ("encoder", "decoder"):
        width = model.get(f"model.{side}_embed_dim")
        heads = model.get(f"model.{side}_attention_heads")
        if width and heads and width % heads:
            raise PipelineError(
                f"{path}: {side}_embed_dim {width} is no multiple of {heads} {side}_attention_heads"
            )


def _presets(config_dir: Path) -> dict[str, Path]:
    """Return the file of each preset; a pair's own come before those of all."""
    folders = (COMMON, config_dir / FOLDER)
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
