"""Read presets of student sizes, ``students/NAME.yaml``: a shape, or a number of layers.

A preset with a shape holds fairseq's settings of a model. A model uses it under the key `student`.
A preset with numbers of layers is for models that begin with another model's first layers
(`Model.layers`). Such a model has the widths of the other model.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipeline.engine.errors import PipelineError

if TYPE_CHECKING:
    from pipeline.models.model_list import Model

FOLDER = "students"
OWN = "own"
"""The name for the size of a pair's own configs."""
LAYERS = "layers"
"""The only key in a preset of layers."""
SIDES = ("encoder", "decoder")
COMMON = Path(__file__).resolve().parents[3] / "configs" / FOLDER


def settings(name: str, config_dir: Path, *, start: bool = False) -> dict[str, Any]:
    """Return the settings of a preset of a shape, by dotted keys of a Hydra config.

    Args:
        name: the name of the preset.
        config_dir: the config folder of a pair; its folder `FOLDER` has the pair's own presets.
        start: whether the model starts from another model. If so, settings that do not describe the
            model (keys with a dot, such as a learning rate) are left out.

    Raises:
        PipelineError: the preset is unknown, has layers, or is no list of settings.
    """
    path, content = _read(name, config_dir)
    if LAYERS in content:
        raise PipelineError(
            f"student {name}: it has layers and no shape; choose from "
            f"{', '.join(_names(config_dir, kept=False)) or 'none'}"
        )
    model = {f"model.{key}": value for key, value in content.items() if "." not in key}
    _check_heads(model, path)
    others = {key: value for key, value in content.items() if "." in key and not start}
    return {**others, **model}


def layers(name: str, config_dir: Path) -> dict[str, int] | None:
    """Return a preset's number of layers for each of `SIDES`; None for a shape or `OWN`.

    Raises:
        PipelineError: see `settings` and `check_layers`; or the preset has further keys.
    """
    if name == OWN:
        return None
    path, content = _read(name, config_dir)
    if LAYERS not in content:
        return None
    if others := [key for key in content if key != LAYERS]:
        raise PipelineError(f"{path}: layers stand alone: leave out {', '.join(others)}")
    check_layers(content[LAYERS], f"{path}: {LAYERS}")
    return dict(content[LAYERS])


def check_layers(found: Any, where: str) -> None:
    """Check that a value has a number of layers for each of `SIDES`.

    Args:
        found: the value.
        where: the place of the value, for errors.

    Raises:
        PipelineError: the value is invalid.
    """
    if not isinstance(found, Mapping) or set(found) != set(SIDES):
        raise PipelineError(f"{where}: give {{encoder: 1, decoder: 1}} or the like")
    for side, count in found.items():
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise PipelineError(f"{where}.{side}: {count} is no number of layers")


def takes_over(models: Mapping[str, Model], name: str) -> bool:
    """Return whether a model takes over layers, or starts from a model that does."""
    return any(models[one].layers for one in _line(models, name))


def resized(model: Model, name: str, config_dir: Path) -> Model:
    """Return a model in the size of a preset; `OWN` returns the model as it is.

    The model's own settings, except those of its shape, override the preset's. A preset of
    layers changes the layers only of models that take over layers.

    Raises:
        PipelineError: see `settings`.
    """
    if name == OWN:
        return model
    if kept := layers(name, config_dir):
        return dataclasses.replace(model, student=name, layers=kept if model.layers else {})
    preset = settings(name, config_dir, start=bool(model.start))
    own = {key: value for key, value in model.settings.items() if not key.startswith("model.")}
    return dataclasses.replace(model, student=name, settings={**preset, **own})


def check_names(names: Any, config_dir: Path, where: str) -> tuple[str, ...]:
    """Check names of presets, and return each once. `OWN` counts as a preset.

    Args:
        names: a list of names.
        config_dir: see `settings`.
        where: the place of the list, for errors.

    Raises:
        PipelineError: a name is unknown, or a preset is invalid.
    """
    known = [OWN, *sorted(_presets(config_dir))]
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise PipelineError(f"{where}: give a list of {', '.join(known)}")
    if unknown := [name for name in names if name not in known]:
        raise PipelineError(f"{where}: there is no {unknown[0]}: choose from {', '.join(known)}")
    for name in names:
        if name != OWN and layers(name, config_dir) is None:
            settings(name, config_dir)
    return tuple(dict.fromkeys(names))


def check_kind(
    models: Mapping[str, Model], methods: Iterable[str], name: str, config_dir: Path
) -> None:
    """Check that a preset is of the kind that methods need: layers, or a shape.

    Args:
        models: all models of the pair, by name.
        methods: the methods to compare.
        name: the name of the preset.
        config_dir: see `settings`.

    Raises:
        PipelineError: a method takes over layers and the preset is a shape, or the other way round.
    """
    kept = layers(name, config_dir) is not None
    for method in methods:
        if takes_over(models, method) == kept:
            continue
        why, kind = (
            ("takes over no layers, and this is a preset of layers", "of a shape")
            if kept
            else ("begins with another model's layers, so has its shape", "of layers")
        )
        others = ", ".join(_names(config_dir, kept=not kept)) or "there is none"
        raise PipelineError(
            f"--students {name}: {method} {why}: name a preset {kind} ({others}), or leave "
            f"{method} out of --methods"
        )


def check_starts(
    models: Mapping[str, Model], methods: Iterable[str], teachers: Iterable[str], *, kept: bool
) -> None:
    """Check that methods, and the models that they start from, can be trained at another size.

    Args:
        models: all models of the pair, by name.
        methods: the methods to compare.
        teachers: the models that keep their size.
        kept: whether the size is a number of layers to take over.

    Raises:
        PipelineError: a model has a size of its own, or starts from a teacher with all its layers.
    """
    for method in methods:
        for name in _line(models, method):
            if kept and not takes_over(models, name):
                break  # this model and its starts keep their size
            if name in teachers:
                raise PipelineError(
                    f"--students: {method} goes on from {name}, which keeps its size: leave "
                    f"{method} out of --methods"
                )
            fixed = _fixed(models[name], kept=kept)
            if fixed:
                also = "" if name == method else f", which {method} goes on from,"
                raise PipelineError(
                    f"--students: {name}{also} has a size of its own ({fixed[0]} in its settings): "
                    f"leave {method} out of --methods"
                )


def check_dictionaries(preset: Mapping[str, Any], joint: bool, where: str) -> None:
    """Check that a model can be trained on the pair's segmentation.

    Args:
        preset: the settings of a model, by dotted keys.
        joint: whether both languages have one dictionary.
        where: the place that names the preset, for errors.

    Raises:
        PipelineError: the model shares embeddings, but the languages have two dictionaries.
    """
    shared = [key for key in ("model.share_all_embeddings",) if preset.get(key)]
    if shared and not joint:
        raise PipelineError(
            f"{where} does not fit the segmentation: it has {shared[0].partition('.')[2]}, but "
            "the teacher has two dictionaries; name another preset, in students/ beside pair.yaml"
        )


def _line(models: Mapping[str, Model], name: str) -> list[str]:
    """Return a model, the model that it starts from, and so on."""
    found = [name]
    while (start := models[found[-1]].start) is not None:
        found.append(start)
    return found


def _fixed(model: Model, *, kept: bool) -> list[str]:
    """Return a model's own settings that conflict with a preset: of layers if `kept`, or shape."""
    if kept:
        return [key for key in model.settings if key in {f"model.{side}_layers" for side in SIDES}]
    if model.student is not None:
        return []
    return [key for key in model.settings if key.startswith("model.")]


def _check_heads(model: Mapping[str, Any], path: Path) -> None:
    for side in ("encoder", "decoder"):
        width = model.get(f"model.{side}_embed_dim")
        heads = model.get(f"model.{side}_attention_heads")
        if width and heads and width % heads:
            raise PipelineError(
                f"{path}: {side}_embed_dim {width} is no multiple of {heads} {side}_attention_heads"
            )


def _names(config_dir: Path, *, kept: bool) -> list[str]:
    """Return the names of all presets of layers if `kept`, else of all shapes."""
    return [
        name
        for name in sorted(_presets(config_dir))
        if (LAYERS in _read(name, config_dir)[1]) == kept
    ]


def _read(name: str, config_dir: Path) -> tuple[Path, dict[str, Any]]:
    found = _presets(config_dir)
    if name not in found:
        raise PipelineError(f"student {name}: choose from {', '.join(sorted(found)) or 'none'}")
    content = yaml.safe_load(found[name].read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise PipelineError(f"{found[name]} should hold fairseq's settings of a model, by name")
    return found[name], content


def _presets(config_dir: Path) -> dict[str, Path]:
    """Return the file of each preset; a pair's own presets replace common presets of their name."""
    folders = (COMMON, config_dir / FOLDER)
    return {path.stem: path for folder in folders for path in folder.glob("*.yaml")}
